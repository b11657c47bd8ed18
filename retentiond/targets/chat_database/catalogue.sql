-- The tables of a layout in the live catalogue. No statement reads a row of these tables.

-- name: relations
-- The tables of a schema by their names.
SELECT c.oid::bigint AS relation, c.relname AS name, c.relkind::text AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind <> 'i' AND c.relkind <> 'I'

-- name: columns
-- Types without their width, as casts use them. With NULL as the width, `character` would become `character(1)`.
SELECT attrelid::bigint AS relation, attname AS name, format_type(atttypid, -1) AS type
FROM pg_attribute WHERE attrelid = ANY($1::bigint[]::oid[]) AND attnum > 0 AND NOT attisdropped

-- name: column
-- The type of one column, as above; no row if it does not exist.
SELECT format_type(a.atttypid, -1)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped

-- name: foreign_keys
-- Every foreign key onto one of the tables, or onto a partition or an inheriting table of one; a key from a partition
-- counts as one from its table. `whole`: it protects all rows of both tables. A key of a single partition does not, nor one
-- of a table with inheriting tables, nor one that is not enforced (PostgreSQL 18) or switched off.
WITH RECURSIVE target(relation, relid) AS (
    SELECT r.relation, r.relation FROM unnest($1::bigint[]::oid[]) AS r(relation)
    UNION
    SELECT target.relation, i.inhrelid FROM target JOIN pg_inherits i ON i.inhparent = target.relid
), heir AS (
    SELECT h.inhparent FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid WHERE NOT c.relispartition
)
SELECT k.conname AS name, target.relation::bigint AS parent,
       coalesce(own.relation, pg_partition_root(k.conrelid), k.conrelid)::bigint AS child,
       k.conrelid = own.relation AND k.confrelid = target.relation
       AND NOT EXISTS (SELECT FROM heir WHERE heir.inhparent IN (k.conrelid, k.confrelid))
       AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
       AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled NOT IN ('O', 'A')) AS whole,
       n.nspname AS child_schema, c.relname AS child_name,
       (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number) AS child_columns,
       (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number) AS parent_columns
FROM pg_constraint k
JOIN target ON target.relid = k.confrelid
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (SELECT t.relation FROM target t WHERE t.relid = k.conrelid
                   ORDER BY t.relation <> t.relid LIMIT 1) own ON true
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY n.nspname, c.relname, k.conname

-- name: unique_indexes
-- The columns of every complete unique index. In a table with inheriting tables, an index does not include their rows.
SELECT i.indrelid::bigint AS relation, array_agg(a.attname::text) AS columns
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
WHERE i.indrelid = ANY($1::bigint[]::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
                  WHERE h.inhparent = i.indrelid AND NOT c.relispartition)
GROUP BY i.indexrelid, i.indrelid

-- name: unindexed
-- The tables with rows of a table (itself, inheriting tables, or partitions) without a complete index that begins with a
-- column.
WITH RECURSIVE member(relid) AS (
    SELECT $1::bigint::oid
    UNION
    SELECT i.inhrelid FROM member JOIN pg_inherits i ON i.inhparent = member.relid
), leaf AS (
    SELECT member.relid FROM member JOIN pg_class c ON c.oid = member.relid AND c.relkind = 'r'
)
SELECT leaf.relid::bigint AS relation, n.nspname AS schema, c.relname AS name, pg_relation_size(leaf.relid) AS bytes
FROM leaf
JOIN pg_class c ON c.oid = leaf.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT EXISTS (
    SELECT FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = $2
        AND (a.attnum = i.indkey[0]
             OR a.attnum = i.indkey[1] AND EXISTS (SELECT FROM pg_attribute apart WHERE apart.attrelid = i.indrelid
                                                   AND apart.attname = $3 AND apart.attnum = i.indkey[0]))
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('btree', 'hash')
    WHERE i.indrelid = leaf.relid AND i.indisvalid AND i.indpred IS NULL)
ORDER BY 2, 3

-- name: deletes_run_code
-- Whether a trigger or a rule runs on deletions from one of the tables, its inheriting tables or its partitions. A disabled
-- one counts: it may be enabled at the next batch.
WITH RECURSIVE member(relid) AS (
    SELECT unnest($1::bigint[]::oid[])
    UNION
    SELECT i.inhrelid FROM member JOIN pg_inherits i ON i.inhparent = member.relid
)
SELECT EXISTS (SELECT FROM member JOIN pg_trigger t ON t.tgrelid = member.relid
               WHERE NOT t.tgisinternal AND t.tgtype & 8 <> 0)
    OR EXISTS (SELECT FROM member JOIN pg_rewrite w ON w.ev_class = member.relid WHERE w.ev_type = '4')

-- name: row_security
-- The tables with row-level security for this role: hidden rows would be left behind.
SELECT r.relation::bigint AS relation FROM unnest($1::bigint[]) AS r(relation)
WHERE row_security_active(r.relation::oid)
