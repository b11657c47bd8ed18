-- What is stored, row by row, and its largest parts: for the report, `usage` and the daily samples.

-- name: few_statistics
-- For the rest of the transaction: a sample of 3,000 rows tells a whole table from a part as well as one of 30,000.
SET LOCAL default_statistics_target = 10

-- name: make_several
-- The hashes that several rows have; the tables end with the connection.
CREATE TEMPORARY TABLE several AS
SELECT m.base64hash COLLATE "C" AS hash FROM mediaapi_media_repository m GROUP BY 1 HAVING count(*) > 1

-- name: analyze_several
ANALYZE pg_temp.several

-- name: make_shared
-- Their blobs, each with its rows and bytes, and the key of its first row.
CREATE TEMPORARY TABLE shared AS
SELECT b.hash, b.rows, b.bytes, f.media_id, f.origin
FROM ({blobs}) b
JOIN (SELECT DISTINCT ON (s.hash) s.hash, m.media_id COLLATE "C" AS media_id, m.media_origin COLLATE "C" AS origin
      FROM mediaapi_media_repository m
      JOIN pg_temp.several s ON s.hash = m.base64hash COLLATE "C"
      ORDER BY s.hash, m.creation_ts, m.media_id COLLATE "C", m.media_origin COLLATE "C") f ON f.hash = b.hash

-- name: analyze_shared
ANALYZE pg_temp.shared

-- name: make_stored
-- Every row with its part of the stored bytes by the database: the first row of a blob has the bytes of the blob, and the
-- number of rows that share it; the others have none. Most blobs have one row, and then their bytes are its file and its
-- thumbnails, which needs no order and no hash. No index of text is read: its order may be that of another library.
-- For the report each row has the code of its verdict as well, and a row that shares its blob the hash.
CREATE TEMPORARY TABLE stored AS
SELECT m.media_id COLLATE "C" AS media_id, m.media_origin COLLATE "C" AS origin, m.user_id, m.creation_ts,
       lower(trim(split_part(m.content_type, ';', 1)) COLLATE "C") AS type,
       CASE WHEN b.hash IS NULL THEN least(greatest(m.file_size_bytes, 0) + coalesce(t.bytes, 0), 9223372036854775807)::bigint
            WHEN b.media_id = m.media_id COLLATE "C" AND b.origin = m.media_origin COLLATE "C" THEN b.bytes
            ELSE 0 END AS bytes,
       CASE WHEN b.hash IS NULL THEN 1
            WHEN b.media_id = m.media_id COLLATE "C" AND b.origin = m.media_origin COLLATE "C" THEN b.rows
            ELSE 0 END AS rows,
       b.hash, {verdict} AS code
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.shared b ON b.hash = m.base64hash COLLATE "C"
LEFT JOIN (SELECT t.media_id COLLATE "C" AS media_id, t.media_origin COLLATE "C" AS media_origin,
                  sum(greatest(t.file_size_bytes, 0)) AS bytes
           FROM mediaapi_thumbnail t
           GROUP BY 1, 2) t
  ON t.media_id = m.media_id COLLATE "C" AND t.media_origin = m.media_origin COLLATE "C"

-- name: analyze_stored
ANALYZE pg_temp.stored

-- name: total
SELECT count(*) AS items, least(coalesce(sum(bytes), 0), 9223372036854775807)::bigint AS bytes FROM pg_temp.stored

-- name: largest
-- The $1 largest keys of each division of $2, in one reading of the table and of the events that show media. A division
-- is a row of its name, of `not_known` or `several` or null, and of a text; one that is longer than any ID ends in its
-- digest. $3 are the names of this server, $4 times in milliseconds, ascending: the key of an age is how many are past.
SELECT g.division, g.own, g.key, g.items, g.bytes
FROM (SELECT k.*, row_number() OVER (PARTITION BY k.division ORDER BY k.bytes DESC, k.items DESC, k.own, k.key) AS place
      FROM (SELECT c.division, CASE WHEN c.key IS NOT NULL THEN NULL WHEN c.shown THEN 'several' ELSE 'not_known' END AS own,
                   CASE WHEN octet_length(c.key) <= 255 THEN c.key
                        ELSE left(c.key, 188) || '...' || encode(sha256(textsend(c.key)), 'hex') END COLLATE "C" AS key,
                   c.items, c.bytes
            FROM (SELECT CASE WHEN grouping(d.class) = 0 THEN 'class' WHEN grouping(d.server) = 0 THEN 'server'
                              WHEN grouping(d.room) = 0 THEN 'room' WHEN grouping(d."user") = 0 THEN 'user'
                              WHEN grouping(d.type) = 0 THEN 'type' ELSE 'age' END AS division,
                         coalesce(d.class, d.server, d.room, d."user", d.type, d.age::text) AS key,
                         coalesce(d.rooms, d.users) AS shown,
                         count(*) AS items, least(sum(d.bytes), 9223372036854775807)::bigint AS bytes
                  FROM (SELECT s.bytes,
                               CASE WHEN s.user_id <> '' OR lower(s.origin COLLATE "C") = ANY ($3::text[])
                                    THEN 'local' ELSE 'remote' END AS class,
                               s.origin AS server,
                               p.room, p.room IS NULL AND p.media_id IS NOT NULL AS rooms,
                               -- The uploader; of media of other servers the sender of the events that show them.
                               coalesce(nullif(s.user_id, ''), p.sender) COLLATE "C" AS "user",
                               s.user_id = '' AND p.sender IS NULL AND p.media_id IS NOT NULL AS users,
                               nullif(s.type, '') AS type,
                               width_bucket(s.creation_ts, $4::bigint[]) AS age
                        FROM pg_temp.stored s
                        LEFT JOIN pg_temp.shown p
                          ON p.media_id = s.media_id COLLATE "C" AND p.media_origin = s.origin COLLATE "C") d
                  GROUP BY GROUPING SETS ((d.class), (d.server), (d.room, d.rooms), (d."user", d.users), (d.type), (d.age))) c
            WHERE c.division = ANY ($2::text[])) k) g
WHERE g.place <= $1
ORDER BY g.division, g.place

-- name: largest_files
-- The $1 largest blobs by the URI of their first row, each with the number of rows that share it. A URI that is longer than
-- any key ends in its digest: a thousand of them may else have hundreds of megabytes.
SELECT CASE WHEN octet_length(f.uri) <= 255 THEN f.uri
            ELSE left(f.uri, 188) || '...' || encode(sha256(textsend(f.uri)), 'hex') END AS uri,
       f.items, f.bytes
FROM (SELECT 'mxc://' || s.origin || '/' || s.media_id AS uri, s.rows AS items, s.bytes
      FROM pg_temp.stored s
      WHERE s.rows > 0
      ORDER BY s.bytes DESC, s.rows DESC, s.origin COLLATE "C", s.media_id COLLATE "C" LIMIT $1) f
ORDER BY f.bytes DESC, f.items DESC, f.uri COLLATE "C"
