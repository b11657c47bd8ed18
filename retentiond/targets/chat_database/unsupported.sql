-- Tables of a layout that a purge does not support. No statement reads a row of these tables.

-- name: members
-- The layout's tables, with all partitions and inheriting tables below them, and their kinds. `pending`: a concurrent
-- detachment was not finished (since PostgreSQL 14).
WITH RECURSIVE member(relation, parent, root, pending) AS (
    SELECT c.oid, NULL::oid, c.oid, false
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
    UNION ALL
    SELECT i.inhrelid, i.inhparent, member.root, coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false)
    FROM member JOIN pg_inherits i ON i.inhparent = member.relation
)
SELECT member.relation::bigint AS relation, member.root::bigint AS root, format('%I.%I', n.nspname, c.relname) AS name,
       CASE WHEN member.parent IS NOT NULL THEN (
           SELECT format('%I.%I', pn.nspname, pc.relname)
           FROM pg_class pc JOIN pg_namespace pn ON pn.oid = pc.relnamespace WHERE pc.oid = member.parent) END AS parent,
       c.relkind::text AS kind, a.amname AS access_method, member.pending
FROM member
JOIN pg_class c ON c.oid = member.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
ORDER BY 3

-- name: extensions
-- Whether the server has the catalogues of Citus and of TimescaleDB.
SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AS citus,
       to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL AS timescaledb

-- name: distributed
SELECT d.logicalrelid::oid::bigint AS relation FROM pg_catalog.pg_dist_partition d
WHERE d.logicalrelid = ANY($1::bigint[]::oid[])

-- name: hypertables
SELECT c.oid::bigint AS relation
FROM _timescaledb_catalog.hypertable h
JOIN pg_namespace n ON n.nspname = h.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name
WHERE c.oid = ANY($1::bigint[]::oid[])
