-- The index on base64hash. It is a hash index in collation "C": only equality is asked, and no change of a
-- locale's order can make it miss rows.

-- name: index_state
-- Whether the index is valid (an invalid one is a remnant of ours), and its name with its schema; no row without
-- an index.
SELECT i.indisvalid AS valid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS index
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass('mediaapi_media_repository') AND c.relname = 'retentiond_base64hash'

-- name: make_index
CREATE INDEX CONCURRENTLY retentiond_base64hash ON mediaapi_media_repository USING hash (base64hash COLLATE "C")

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {index}
