-- Partitions whose whole range is before the date. {names} and $names are as in purge.sql.

-- name: below
-- The partitions of a table by ranges of one of its dates that end at or before the date, if this role may drop them.
WITH part AS (
    SELECT leaf.relid, n.nspname AS schema, c.relname AS name,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?([^'')]*)''?\)$'))[1] AS upper
    FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    JOIN pg_partition_tree(p.partrelid) leaf ON leaf.isleaf AND leaf.parentrelid = p.partrelid
    JOIN pg_class c ON c.oid = leaf.relid
    JOIN pg_class parent ON parent.oid = p.partrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.partrelid = $relation::bigint::oid AND p.partstrat = 'r' AND p.partnatts = 1
      AND a.attname = ANY($dates::text[])
      AND pg_has_role(c.relowner, 'USAGE') AND pg_has_role(parent.relowner, 'USAGE')
)
SELECT schema, name, relid::bigint AS relation FROM part
WHERE upper ~ '^[0-9]' AND upper::{date_type} <= {cutoff}
ORDER BY name

-- name: holds_others
-- Whether a partition has a row of a chat that is not due.
SELECT EXISTS (SELECT FROM {partition} r LEFT JOIN {survey} d ON d.key = r.{column} WHERE d.verdict IS DISTINCT FROM 'due')

-- name: deletes_are_observed
-- Whether a trigger or a subscriber gets each deleted row but would not get a TRUNCATE (a publication via the root does not
-- publish the TRUNCATE of a partition). A partition is among its own ancestors.
SELECT EXISTS (
    SELECT FROM pg_trigger t JOIN pg_partition_ancestors({relation}::oid) place ON place.relid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgtype & 8 <> 0
) OR EXISTS (
    SELECT FROM pg_publication p
    JOIN pg_publication_tables published ON published.pubname = p.pubname
    JOIN pg_namespace n ON n.nspname = published.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = published.tablename
    JOIN pg_partition_ancestors({relation}::oid) place ON place.relid = c.oid
    WHERE p.pubdelete AND (NOT p.pubtruncate OR p.pubviaroot)
)

-- name: make_members
-- The chats that have rows in the partition.
CREATE TEMPORARY TABLE retentiond_members ON COMMIT DROP AS
SELECT DISTINCT r.{column} AS key FROM {partition} r

-- name: index_members
ALTER TABLE pg_temp.retentiond_members ADD PRIMARY KEY (key)

-- name: analyze_members
ANALYZE pg_temp.retentiond_members

-- name: count_members
SELECT count(*) FROM pg_temp.retentiond_members

-- name: lock_members
SELECT count(*) FROM (
    SELECT FROM {top} t WHERE t.{key} IN (SELECT key FROM pg_temp.retentiond_members) FOR UPDATE SKIP LOCKED) locked

-- name: judge_members
-- The number of locked chats that are still due.
SELECT count(*) FROM (
    SELECT {verdict} AS verdict FROM {top} t {child_rows_by_chat}
    WHERE t.{key} IN (SELECT key FROM pg_temp.retentiond_members) AND {of_account} AND {began}) judged
WHERE verdict = 'due'

-- name: make_shared
-- The keys of rows that these chats may share with others.
CREATE TEMPORARY TABLE {shared_keys} ON COMMIT DROP AS
SELECT DISTINCT t.{by} AS key FROM {top} t
WHERE t.{key} IN (SELECT key FROM pg_temp.retentiond_members) AND t.{by} IS NOT NULL

-- name: keep_unused
-- Locks the rows that no chat refers to any more, and removes the other keys.
WITH unused AS (
    SELECT s.{shared_key} AS key FROM {shared} s
    WHERE s.{shared_key} IN (SELECT key FROM {shared_keys})
      AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})
    FOR UPDATE)
DELETE FROM {shared_keys} WHERE key NOT IN (SELECT key FROM unused)

-- name: count_shared_rows
SELECT count(*) FROM {shared_keys}

-- name: delete_shared_rows
DELETE FROM {shared} s
WHERE s.{shared_key} IN (SELECT key FROM {shared_keys})
  AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})

-- name: lock_partition
LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE

-- name: count_partition
SELECT count(*) FROM {partition}

-- name: other_rows
-- Whether a row of another chat was added since the chats were listed.
SELECT EXISTS (SELECT FROM {partition} r WHERE r.{column} NOT IN (SELECT key FROM pg_temp.retentiond_members))

-- name: truncate
TRUNCATE {partition}

-- name: lock_parent
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE

-- name: is_empty
SELECT NOT EXISTS (SELECT FROM {partition})

-- name: detach
ALTER TABLE {table} DETACH PARTITION {partition}

-- name: drop
DROP TABLE {partition}
