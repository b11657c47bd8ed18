-- Statements on dendrite's media tables that several folders send.

-- name: media_columns
-- The columns of dendrite's two tables, to compare with the columns that we copy and decide by: all must be NOT
-- NULL.
SELECT c.relname AS relation, a.attname AS column,
       format_type(a.atttypid, NULL) || CASE WHEN a.attnotnull THEN '' ELSE ' or NULL' END AS type
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.oid IN (to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail'))
  AND a.attnum > 0 AND NOT a.attisdropped

-- name: keys_that_take_rows
-- Foreign keys by which a deletion of ours would also delete or change rows of tables other than dendrite's media
-- tables, of which we keep no copy. Keys onto partitions and inheriting tables, whose rows are deleted with the
-- table's, count.
WITH RECURSIVE ours(relid) AS (
    SELECT t.relid FROM unnest(ARRAY[to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail')]::oid[])
                        AS t(relid)
    UNION
    SELECT i.inhrelid FROM ours JOIN pg_inherits i ON i.inhparent = ours.relid
)
SELECT k.conname AS key, k.conrelid::regclass::text AS relation
FROM pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype NOT IN ('a', 'r')
  AND k.confrelid IN (SELECT relid FROM ours) AND k.conrelid NOT IN (SELECT relid FROM ours)
ORDER BY relation, key

-- name: tables_there
-- Those of dendrite's two tables that this role sees, and the names for a message.
SELECT current_database()::text AS database, current_user::text AS role,
       to_regclass('mediaapi_media_repository') IS NOT NULL AS media,
       to_regclass('mediaapi_thumbnail') IS NOT NULL AS thumbnails

-- name: may_make_temporary
-- Whether this role may create temporary tables and functions, and the names that a GRANT needs.
SELECT has_database_privilege(current_database(), 'TEMPORARY') AS allowed, quote_ident(current_database()) AS database,
       quote_ident(current_user) AS role

-- name: has_media
SELECT EXISTS (SELECT FROM mediaapi_media_repository)

-- name: orphan_thumbnail_rows
-- Thumbnail rows without a media row.
SELECT count(*) FROM mediaapi_thumbnail t
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)

-- name: shared_blobs
-- The number of blobs of a pass that still have rows.
SELECT count(*) FROM (SELECT DISTINCT r.base64hash FROM retentiond.released_media r WHERE r.pass_id = $1) r
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = r.base64hash)

-- name: may_delete
-- Whether this role has every privilege on dendrite's tables that a pass needs.
SELECT coalesce(bool_and(has_table_privilege(c.oid, 'SELECT, INSERT') AND has_table_privilege(c.oid, 'DELETE')
                         AND has_table_privilege(c.oid, 'UPDATE')), false)
FROM pg_class c
WHERE c.oid IN (to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail'))

-- name: owns_media
-- Whether this role may create an index on dendrite's media table.
SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass('mediaapi_media_repository')

-- name: foreign_users
-- Rows with a user of none of these servers (in lower case), or with an unreadable user ID; and one example.
SELECT count(*) AS rows, min('mxc://' || media_origin || '/' || media_id) AS example
FROM mediaapi_media_repository
WHERE user_id <> ''
  AND lower(CASE WHEN strpos(user_id, ':') > 0 THEN substr(user_id, strpos(user_id, ':') + 1) ELSE '' END)
      <> ALL ($1::text[])

-- name: released_uploaders
-- The uploaders of the rows that a pass released, with counts; '' stands for other servers.
SELECT user_id, count(*) AS items FROM retentiond.released_media WHERE pass_id = $1 GROUP BY user_id
