-- What a pass checks before its survey.

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

-- name: foreign_users
-- Rows with a user of none of these servers (in lower case), or with an unreadable user ID; and one example.
SELECT count(*) AS rows, min('mxc://' || media_origin || '/' || media_id) AS example
FROM mediaapi_media_repository
WHERE user_id COLLATE "C" <> ''
  AND lower(CASE WHEN strpos(user_id COLLATE "C", ':') > 0
                 THEN substr(user_id, strpos(user_id COLLATE "C", ':') + 1) ELSE '' END COLLATE "C") <> ALL ($1::text[])
