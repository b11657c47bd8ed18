-- The store, the passes and the clocks of its hosts, and what the role may do. All relations are named with their schema, independent of any search_path.

-- name: foreign_owner
-- The schema, or an object in it, that belongs to a role whose rights this one does not have; a trigger or a rule of that
-- role would run with our rights. A superuser, and the owner of dendrite's media, can do that anyway.
SELECT o.kind, o.name, quote_ident(pg_get_userbyid(o.owner)) AS owner, quote_ident(current_user) AS role
FROM (SELECT 'SCHEMA' AS kind, 'retentiond' AS name, n.nspowner AS owner, 0 AS place FROM pg_namespace n WHERE n.nspname = 'retentiond'
      UNION ALL
      SELECT 'TABLE', 'retentiond.' || quote_ident(c.relname), c.relowner, 1
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = 'retentiond' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) o
WHERE NOT pg_has_role(o.owner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = o.owner AND r.rolsuper)
  AND o.owner IS DISTINCT FROM (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass('mediaapi_media_repository'))
ORDER BY o.place, o.name LIMIT 1

-- name: may_create_schema
-- Whether this role may make a schema, and the names that a GRANT would need.
SELECT has_database_privilege(current_database(), 'CREATE') AS allowed,
       quote_ident(current_database()) AS database, quote_ident(current_user) AS role

-- name: lacking_rights
-- A table or sequence of the ledger that this role may not use, if there is one, and its name for a GRANT.
SELECT c.oid::regclass::text AS name, quote_ident(current_user) AS role FROM pg_class c
WHERE c.relnamespace = to_regnamespace('retentiond')
  AND (c.relkind = 'r' AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
       OR c.relkind = 'S' AND NOT has_sequence_privilege(c.oid, 'USAGE'))
ORDER BY c.relname LIMIT 1

-- name: store
-- The store's ID, the last pass of a kind of target or that was accepted, when there was one of any, the server's clock, and whether the next
-- pass of a target is its first: manual deletions do not count as a pass.
SELECT s.store_id, greatest(s.accepted_pass, (SELECT max(p.pass_id) FROM retentiond.pass p WHERE p.kind = $2)) AS last_pass,
       s.last_pass_at, clock_timestamp() AS now,
       NOT EXISTS (SELECT FROM retentiond.pass p
                   WHERE p.target = $1 AND p.kind = $2 AND p.command NOT IN ('audit --repair', 'delete')) AS first
FROM retentiond.store s

-- name: is_standby
-- Whether the server only follows another.
SELECT pg_is_in_recovery()

-- name: begin_pass
-- Numbers the pass and records its rules.
WITH numbered AS (
    UPDATE retentiond.store SET last_pass = last_pass + 1, last_pass_at = clock_timestamp() RETURNING last_pass
)
INSERT INTO retentiond.pass (pass_id, target, kind, command, host, pid, state, started_at, rules, grace, settle)
SELECT last_pass, $1, $2, $3, $4, $5, 'running', $6, $7::jsonb, $8, $9 FROM numbered
RETURNING pass_id

-- name: end_pass
UPDATE retentiond.pass SET state = $2, finished_at = clock_timestamp(), report = $3::jsonb WHERE pass_id = $1

-- name: interrupt_passes
-- A pass that is still running although we hold the lock has died.
UPDATE retentiond.pass SET state = 'interrupted', finished_at = clock_timestamp() WHERE state = 'running'
RETURNING pass_id, target

-- name: accept_store
-- The ledger continues after the last pass that either side knows of; times in the future become the present.
UPDATE retentiond.store
SET last_pass = greatest(last_pass, $1), accepted_pass = greatest(accepted_pass, $1),
    last_pass_at = least(last_pass_at, clock_timestamp())
RETURNING store_id, last_pass, accepted_pass

-- name: save_refusal
INSERT INTO retentiond.refusal (target, at, refused) VALUES ($1, clock_timestamp(), $2::jsonb)
ON CONFLICT (target) DO UPDATE SET at = excluded.at, refused = excluded.refused

-- name: clear_refusal
DELETE FROM retentiond.refusal WHERE target = $1

-- name: count_purged
-- Adds purged blobs to the totals of their passes.
UPDATE retentiond.pass p
SET purged_entries = p.purged_entries + g.entries, purged_bytes = p.purged_bytes + g.bytes
FROM (SELECT u.pass_id, count(*) AS entries, sum(u.bytes) AS bytes
      FROM unnest($1::bigint[], $2::bigint[]) AS u(pass_id, bytes) GROUP BY u.pass_id) g
WHERE p.pass_id = g.pass_id

-- name: count_restored
-- Adds restored rows to the totals of their passes, a row each.
UPDATE retentiond.pass p SET restored_items = p.restored_items + g.items
FROM (SELECT u.pass_id, count(*) AS items FROM unnest($1::bigint[]) AS u(pass_id) GROUP BY 1) g
WHERE p.pass_id = g.pass_id
