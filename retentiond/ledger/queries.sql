-- The ledger's own statements. All relations are named with their schema, independent of any search_path.

-- name: ledger_exists
-- Whether this database has a ledger. Read from the catalogue itself: to_regclass uses a cache of the session, which is
-- out of date after the wait for another process that creates the ledger.
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'retentiond' AND c.relname = 'ledger_version')

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
-- The store's ID, its last pass, the server's clock, and whether the next pass is the first: manual deletions do not
-- count as a pass.
SELECT store_id, last_pass, last_pass_at, clock_timestamp() AS now,
       NOT EXISTS (SELECT FROM retentiond.pass WHERE command NOT IN ('audit --repair', 'delete')) AS first
FROM retentiond.store

-- name: is_standby
-- Whether the server only follows another.
SELECT pg_is_in_recovery()

-- name: has_settings
-- Whether the settings that safety hangs on came with the connection (a pooler may have ignored them).
SELECT current_setting('synchronous_commit') <> 'off' AND current_setting('row_security') = 'off'

-- name: take_lease
-- Begins a new epoch; the transactions of the one before see it and roll back.
UPDATE retentiond.lease
SET epoch = epoch + 1, command = $1, host = $2, pid = $3, since = clock_timestamp()
RETURNING epoch

-- name: end_lease
-- Clears the holder of the lease, if it is still our epoch.
UPDATE retentiond.lease SET command = NULL, host = NULL, pid = NULL, since = NULL WHERE epoch = $1

-- name: check_lease
-- Holds our epoch until this transaction ends; no row where it is over.
SELECT epoch FROM retentiond.lease WHERE epoch = $1 FOR SHARE

-- name: holder
-- The command that took the lease last; after its death it is still here, but holds no lock.
SELECT command, host, pid, since FROM retentiond.lease WHERE host IS NOT NULL

-- name: new_claimant
SELECT nextval('retentiond.claimant')::integer

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

-- name: save_backlog
-- What a survey found due.
INSERT INTO retentiond.backlog (target, at, items, bytes, since) VALUES ($1, clock_timestamp(), $2, $3, $4)
ON CONFLICT (target) DO UPDATE
SET at = excluded.at, items = excluded.items, bytes = excluded.bytes, since = excluded.since

-- name: shrink_backlog
-- A pass has taken so many of it; with the last item all of it is gone. For items without a size, such as chats.
UPDATE retentiond.backlog
SET items = greatest(items - $2, 0), since = CASE WHEN items > $2 THEN since END
WHERE target = $1

-- name: backlog
SELECT at, items, bytes, since FROM retentiond.backlog WHERE target = $1

-- name: accept_store
-- The ledger continues after the last pass that either side knows of; times in the future become the present.
UPDATE retentiond.store
SET last_pass = greatest(last_pass, $1), last_pass_at = least(last_pass_at, clock_timestamp())
RETURNING store_id, last_pass

-- name: save_refusal
INSERT INTO retentiond.refusal (target, at, refused) VALUES ($1, clock_timestamp(), $2::jsonb)
ON CONFLICT (target) DO UPDATE SET at = excluded.at, refused = excluded.refused

-- name: clear_refusal
DELETE FROM retentiond.refusal WHERE target = $1

-- name: last_refusal
SELECT at, refused FROM retentiond.refusal WHERE target = $1

-- name: pass_state
SELECT state FROM retentiond.pass WHERE pass_id = $1

-- name: last_pass
-- The newest pass of a target; manual deletions do not delay a pass.
SELECT pass_id, state, started_at, finished_at, report
FROM retentiond.pass WHERE target = $1 AND command NOT IN ('audit --repair', 'delete')
ORDER BY started_at DESC LIMIT 1

-- name: freed
-- Deletions of a target's passes, by day in UTC, of the last $2 days up to today.
SELECT (started_at AT TIME ZONE 'UTC')::date AS day, sum((report -> 'removed' ->> 'items')::bigint)::bigint AS items,
       sum((report -> 'removed' ->> 'bytes')::bigint)::bigint AS bytes
FROM retentiond.pass
WHERE target = $1 AND report IS NOT NULL
  AND (started_at AT TIME ZONE 'UTC')::date > (clock_timestamp() AT TIME ZONE 'UTC')::date - $2::integer
GROUP BY 1 ORDER BY 1

-- name: totals
-- All passes of a target together.
SELECT coalesce(sum((report -> 'removed' ->> 'items')::bigint), 0)::bigint AS taken_items,
       least(coalesce(sum((report -> 'removed' ->> 'bytes')::bigint), 0), 9223372036854775807)::bigint AS taken_bytes,
       coalesce(sum(purged_entries), 0)::bigint AS purged_items,
       least(coalesce(sum(purged_bytes), 0), 9223372036854775807)::bigint AS purged_bytes,
       coalesce(sum(restored_items), 0)::bigint AS restored
FROM retentiond.pass WHERE target = $1

-- name: last_success
-- The end of the newest pass of a target that did all of its work.
SELECT finished_at FROM retentiond.pass
WHERE target = $1 AND state IN ('finished', 'finished_with_failures') ORDER BY started_at DESC LIMIT 1

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

-- name: beat
-- The daemon's sign of life.
INSERT INTO retentiond.daemon (host, pid, beat_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (host) DO UPDATE SET pid = excluded.pid, beat_at = excluded.beat_at

-- name: end_beat
DELETE FROM retentiond.daemon WHERE host = $1 AND pid = $2

-- name: daemons
-- The daemons that gave a sign of life within the last three minutes.
SELECT host, pid FROM retentiond.daemon WHERE beat_at > clock_timestamp() - interval '3 minutes'

-- name: clock_of_boot
SELECT boot_id, wall_ahead FROM retentiond.host_clock WHERE boot_id = $1

-- name: save_clock
INSERT INTO retentiond.host_clock (host, boot_id, wall_ahead, seen_at) VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (boot_id) DO UPDATE
SET host = excluded.host, wall_ahead = excluded.wall_ahead, seen_at = excluded.seen_at

-- name: save_audit
INSERT INTO retentiond.audit (target, command, started_at, finished_at, report) VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (target) DO UPDATE
SET command = excluded.command, started_at = excluded.started_at, finished_at = excluded.finished_at,
    report = excluded.report

-- name: last_audit
SELECT command, started_at, finished_at, report FROM retentiond.audit WHERE target = $1
