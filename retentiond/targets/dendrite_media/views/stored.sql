-- What is stored, row by row, and its largest parts: for the report, `usage` and the daily samples.

-- name: make_blobs
-- Every blob with its rows and bytes, by the one measure.
CREATE TEMPORARY TABLE blobs AS {blobs}

-- name: analyze_blobs
ANALYZE pg_temp.blobs

-- name: make_stored
-- Every row with its part of the stored bytes by the database: the first row of a blob has the bytes of the blob, and the
-- number of rows that share it; the others have none. The table ends with the connection.
CREATE TEMPORARY TABLE stored AS
SELECT r.media_id, r.origin, r.user_id, r.type, r.creation_ts, CASE WHEN r.place = 1 THEN r.bytes ELSE 0 END AS bytes,
       CASE WHEN r.place = 1 THEN r.rows ELSE 0 END AS rows
FROM (SELECT m.media_id, m.media_origin AS origin, m.user_id, m.creation_ts, b.bytes, b.rows,
             lower(trim(split_part(m.content_type, ';', 1)) COLLATE "C") AS type,
             row_number() OVER (PARTITION BY b.hash ORDER BY m.creation_ts, m.media_id, m.media_origin) AS place
      FROM mediaapi_media_repository m
      JOIN pg_temp.blobs b ON b.hash = m.base64hash COLLATE "C") r

-- name: total
SELECT count(*) AS items, least(coalesce(sum(bytes), 0), 9223372036854775807)::bigint AS bytes FROM pg_temp.stored

-- name: largest
-- The $1 largest keys of each division, in one reading of the table and of the events that show media. A division is a
-- row of its name, of `not_known` or `several` or null, and of a text; one that is longer than any ID ends in its digest.
-- $2 are the names of this server, $3 the time in milliseconds, $4 ages in days, ascending.
SELECT g.division, g.own, g.key, g.items, g.bytes
FROM (SELECT k.*, row_number() OVER (PARTITION BY k.division ORDER BY k.bytes DESC, k.items DESC, k.own, k.key) AS place
      FROM (SELECT d.division, d.own,
                   CASE WHEN octet_length(d.key) <= 255 THEN d.key
                        ELSE left(d.key, 188) || '...' || encode(sha256(textsend(d.key)), 'hex') END COLLATE "C" AS key,
                   count(*) AS items, least(sum(s.bytes), 9223372036854775807)::bigint AS bytes
            FROM pg_temp.stored s
            LEFT JOIN pg_temp.shown p ON p.media_id = s.media_id COLLATE "C" AND p.media_origin = s.origin COLLATE "C"
            CROSS JOIN (SELECT $2::text[] AS server_names, $3::bigint AS now, $4::integer[] AS ages) a
            CROSS JOIN LATERAL (VALUES {divisions}) AS d(division, own, key)
            GROUP BY 1, 2, 3) k) g
WHERE g.place <= $1
ORDER BY g.division, g.place

-- name: largest_files
-- The $1 largest blobs by the key of their first row, each with the number of rows that share it.
SELECT s.media_id, s.origin, s.rows AS items, s.bytes FROM pg_temp.stored s
WHERE s.rows > 0
ORDER BY s.bytes DESC, s.rows DESC, s.origin COLLATE "C", s.media_id COLLATE "C" LIMIT $1

-- name: by_class
('class', NULL, CASE WHEN s.user_id <> '' OR lower(s.origin COLLATE "C") = ANY (a.server_names) THEN 'local' ELSE 'remote' END)

-- name: by_server
('server', NULL, s.origin)

-- name: by_user
-- The uploader; of media of other servers the sender of the events that show them.
('user', CASE WHEN s.user_id <> '' OR p.sender IS NOT NULL THEN NULL WHEN p.media_id IS NULL THEN 'not_known' ELSE 'several' END,
 coalesce(nullif(s.user_id, ''), p.sender))

-- name: by_room
('room', CASE WHEN p.room IS NOT NULL THEN NULL WHEN p.media_id IS NULL THEN 'not_known' ELSE 'several' END, p.room)

-- name: by_type
-- The content type without its parameters.
('type', CASE WHEN s.type = '' THEN 'not_known' END, nullif(s.type, ''))

-- name: by_age
-- The first of the ages that is not below the row's age; null for older ones.
('age', NULL,
 (SELECT min(n.days)::text FROM unnest(a.ages) AS n(days) WHERE s.creation_ts >= a.now - n.days * 86400000::bigint))
