-- The survey: rows in pages, their mentions, and the due rows, in temporary tables of one connection. {reference}
-- is the copy of references.

-- name: media_page
-- A page of all rows in the order of dendrite's own unique index, after a key.
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id
FROM mediaapi_media_repository
WHERE (media_id, media_origin) > ($1::text, $2::text)
ORDER BY media_id, media_origin
LIMIT $3

-- name: media_page_with_mentions
-- The same, with the sources that mention each row, of those in $4; $5 are the names of this server.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, coalesce(f.since_ms, '{}') AS since_ms,
       coalesce(f.sources, '{}') || ARRAY(SELECT h.source FROM ({shown_on_page}) h WHERE h.source = ANY ($4::text[])) AS mentions
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.mention f ON f.media_id = m.media_id COLLATE "C" AND f.media_origin = m.media_origin COLLATE "C"
WHERE (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: count_verdicts
-- All rows, by the code of their verdict. OFFSET hides the expression from the planner, which would else expect as many
-- codes as rows, and take no workers. As a number it
-- would have to be computed first, and keep the workers away, too.
SELECT v.code, count(*) AS items
FROM (SELECT {verdict} AS code FROM mediaapi_media_repository m OFFSET '0') v
GROUP BY v.code

-- name: sample
-- At most $1 blobs with the smallest keyed digests, up to $3: each distinct one has the same chance. Hashes of another
-- length are none.
SELECT h.hash
FROM (SELECT DISTINCT m.base64hash COLLATE "C" AS hash, hashtextextended(m.base64hash COLLATE "C", $2) AS digest
      FROM mediaapi_media_repository m
      WHERE hashtextextended(m.base64hash COLLATE "C", $2) <= $3 AND octet_length(m.base64hash) = 43) h
ORDER BY h.digest LIMIT $1

-- name: make_asked
-- The rows whose verdict the server leaves open; the table ends with the connection.
CREATE TEMPORARY TABLE asked (asked_id bigint, media_id text COLLATE "C", media_origin text COLLATE "C")

-- name: take_asked
-- The same table, with the rows.
CREATE TEMPORARY TABLE asked AS
SELECT row_number() OVER () AS asked_id, m.media_id COLLATE "C" AS media_id, m.media_origin COLLATE "C" AS media_origin
FROM mediaapi_media_repository m
WHERE {verdict} = {asked}

-- name: sort_asked
CREATE INDEX asked_by_id ON pg_temp.asked (asked_id)

-- name: drop_asked
DROP TABLE IF EXISTS pg_temp.asked

-- name: asked_page
-- A page of those rows.
SELECT a.asked_id, m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       m.base64hash, m.user_id
FROM pg_temp.asked a
JOIN mediaapi_media_repository m
  ON m.media_id = a.media_id COLLATE "default" AND m.media_origin = a.media_origin COLLATE "default"
WHERE a.asked_id > $1
ORDER BY a.asked_id
LIMIT $2

-- name: asked_page_with_mentions
-- The same, with the sources that mention each row, of those in $3; $4 are the names of this server.
SELECT a.asked_id, m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       m.base64hash, m.user_id, coalesce(f.since_ms, '{}') AS since_ms,
       coalesce(f.sources, '{}') || ARRAY(SELECT h.source FROM ({shown_if_asked}) h WHERE h.source = ANY ($3::text[])) AS mentions
FROM pg_temp.asked a
JOIN mediaapi_media_repository m
  ON m.media_id = a.media_id COLLATE "default" AND m.media_origin = a.media_origin COLLATE "default"
LEFT JOIN pg_temp.mention f ON f.media_id = a.media_id AND f.media_origin = a.media_origin
WHERE a.asked_id > $1
ORDER BY a.asked_id
LIMIT $2

-- name: make_mentions
-- The mentions of media in the sources of conditions of policies: one row for each key; the table ends with the
-- connection.
CREATE TEMPORARY TABLE mention (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    sources text[] NOT NULL,
    since_ms bigint[] NOT NULL
)

-- name: learn_mentions
INSERT INTO pg_temp.mention (media_id, media_origin, sources, since_ms)
SELECT f.media_id, f.media_origin, array_agg(f.source), array_agg(f.since_ms)
FROM {reference} f
WHERE f.copy_id = $1
  AND (f.source = ANY ($2::text[]) OR 'sent_by' = ANY ($2::text[]) AND starts_with(f.source, 'sent_by:'))
GROUP BY f.media_id, f.media_origin

-- name: sort_mentions
CREATE INDEX mention_by_key ON pg_temp.mention (media_id, media_origin)

-- name: analyze_mentions
ANALYZE pg_temp.mention

-- name: drop_mentions
DROP TABLE IF EXISTS pg_temp.mention, pg_temp.mention_member

-- name: make_members
-- The users of encrypted rooms, from the copy; the table ends with the connection.
CREATE TEMPORARY TABLE mention_member (copy_id bigint NOT NULL, user_id text COLLATE "C" NOT NULL, until_ms bigint)

-- name: learn_members
INSERT INTO pg_temp.mention_member (copy_id, user_id, until_ms)
SELECT 0, e.user_id, e.until_ms FROM {reference}_member e WHERE e.copy_id = $1

-- name: sort_members
CREATE INDEX mention_member_by_user ON pg_temp.mention_member USING hash (user_id)

-- name: analyze_members
ANALYZE pg_temp.mention_member

-- name: mentions_of
-- Those of these sources that mention each of these rows (key, uploader, upload time), by the copy; $7 are the
-- names of this server.
SELECT k.media_id, k.media_origin, coalesce(f.sources, '{}') AS sources, coalesce(f.since_ms, '{}') AS since_ms
FROM unnest($1::text[], $2::text[], $5::text[], $6::bigint[]) AS k(media_id, media_origin, user_id, creation_ts)
CROSS JOIN LATERAL (
    SELECT array_agg(s.source) AS sources, array_agg(s.since_ms) AS since_ms
    FROM (SELECT f.source, f.since_ms FROM retentiond.reference f
          WHERE f.copy_id = $3
            AND (f.source = ANY ($4::text[]) OR 'sent_by' = ANY ($4::text[]) AND starts_with(f.source, 'sent_by:'))
            AND f.media_id = k.media_id COLLATE "C" AND f.media_origin = k.media_origin COLLATE "C"
          UNION ALL
          SELECT h.source, NULL FROM ({shown_of}) h WHERE h.source = ANY ($4::text[])) s) f

-- name: make_due
-- The rows due by age and policy; the table ends with the connection.
CREATE TEMPORARY TABLE due (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    policy integer NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    -- When the policy's time began, in milliseconds; without it, when this server stored the media.
    counted_from bigint,
    kept text,
    due_id bigint GENERATED BY DEFAULT AS IDENTITY
)

-- name: take_due
-- The same table, made of the rows whose verdict is to remove them. The dates are compared first: they leave out most
-- rows, and the expression costs more; OFFSET has it computed once for each row.
CREATE TEMPORARY TABLE due AS
SELECT v.hash, v.media_id, v.media_origin, ({policies})[v.code + 1] AS policy, v.size, v.counted_from,
       NULL::text AS kept, row_number() OVER () AS due_id
FROM (SELECT m.base64hash COLLATE "C" AS hash, m.media_id COLLATE "C" AS media_id, m.media_origin COLLATE "C" AS media_origin,
             least(greatest(m.file_size_bytes, 0), {largest}) AS size, m.creation_ts AS counted_from, {verdict} AS code
      FROM mediaapi_media_repository m
      WHERE m.creation_ts BETWEEN {first} AND {newest}
      OFFSET '0') v
WHERE v.code = ANY ({due})

-- name: sort_due
-- Due rows are processed by hash: rows that share a blob come together, and so do blobs that share a directory.
-- The key is not in the index: an ID that just fits into that of dendrite would be too long for ours.
CREATE INDEX due_by_hash ON pg_temp.due (hash, due_id)

-- name: analyze_due
ANALYZE pg_temp.due

-- name: drop_due
DROP TABLE IF EXISTS pg_temp.due

-- name: keep_restored
-- Mark the rows that were restored and are kept from then on.
UPDATE pg_temp.due d SET kept = 'restored'
FROM retentiond.restored r
WHERE d.kept IS NULL AND r.media_id = d.media_id AND r.media_origin = d.media_origin
  AND (r.until IS NULL OR r.until > clock_timestamp())

-- name: keep_referenced
-- Mark the rows to which a protection refers, by the first that does, in the order given.
UPDATE pg_temp.due d SET kept = p.source
FROM (SELECT f.media_id, f.media_origin, ($2::text[])[min(array_position($2::text[], f.source))] AS source
      FROM {reference} f
      WHERE f.copy_id = $1 AND f.source = ANY ($2::text[])
      GROUP BY f.media_id, f.media_origin) p
WHERE d.kept IS NULL AND p.media_id = d.media_id AND p.media_origin = d.media_origin

-- name: keep_encrypted
-- Mark the rows that an encrypted room may show, by the pseudo-sources $2; $3 are the names of this server.
UPDATE pg_temp.due d SET kept = h.source
FROM mediaapi_media_repository m CROSS JOIN LATERAL ({shown_due}) h
WHERE d.kept IS NULL AND h.source = ANY ($2::text[])
  AND m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"

-- name: tally_due
-- Due rows and their recorded sizes, by the reason that keeps them all the same (null: nothing).
SELECT kept, count(*) AS items, sum(size)::bigint AS bytes FROM pg_temp.due GROUP BY kept

-- name: due_by_policy
-- The rows left due, by the position of the policy.
SELECT policy, count(*) AS items FROM pg_temp.due WHERE kept IS NULL GROUP BY policy

-- name: due_page
-- A page of the due rows, by hash.
SELECT hash, due_id, media_id, media_origin, policy, size, kept
FROM pg_temp.due
WHERE (hash, due_id) > ($1::text, $2::bigint)
ORDER BY hash, due_id
LIMIT $3

-- name: evicted_of
-- Those of these keys that a quota of the plan would remove.
SELECT e.media_id, e.media_origin
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN pg_temp.evicted e ON e.media_id = k.media_id COLLATE "C" AND e.media_origin = k.media_origin COLLATE "C"
