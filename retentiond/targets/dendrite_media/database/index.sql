-- The index over base64hash. It is a hash index in collation "C": equality is all that is asked, and no change of
-- a locale's order can make it find too little.

-- name: index_state
-- Whether the index is valid, else it is a remnant of ours, and its name with its schema; no row where there is none.
SELECT i.indisvalid AS valid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS index
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass('mediaapi_media_repository') AND c.relname = 'retentiond_base64hash'

-- name: make_index
CREATE INDEX CONCURRENTLY retentiond_base64hash ON mediaapi_media_repository USING hash (base64hash COLLATE "C")

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {index}
