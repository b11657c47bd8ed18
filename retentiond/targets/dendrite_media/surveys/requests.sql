-- What somebody wants deleted by hand. To be deleted, a reference must be plain: what does not parse, and what an ID
-- might only begin with, refers to nothing here; where it is asked what else refers to a medium, it does.

-- name: drop_referred
DROP TABLE IF EXISTS pg_temp.referred

-- name: make_referred
-- What the user or room of a request refers to; it goes with the connection.
CREATE TEMPORARY TABLE referred (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin)
)

-- name: events_of_user
-- What the events of a user plainly refer to, as rooms see them now and as they were sent.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT pg_temp.retentiond_content(e.headered_event_json) AS content
      FROM (SELECT headered_event_json FROM syncapi_output_room_events WHERE sender = $1
            UNION ALL
            SELECT headered_event_json FROM syncapi_current_room_state WHERE sender = $1) e
      WHERE e.headered_event_json LIKE '%mxc:%' OR e.headered_event_json LIKE '%\\u00%'
      OFFSET 0) c
CROSS JOIN LATERAL pg_temp.retentiond_strings(c.content) s(mention)
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
WHERE jsonb_typeof(c.content) = 'object' AND k.plain

-- name: profile_of_user
SELECT DISTINCT k.media_id, k.media_origin
FROM userapi_profiles p CROSS JOIN LATERAL pg_temp.retentiond_keys(p.avatar_url) k
WHERE k.plain AND '@' || p.localpart || ':' || p.server_name = $1

-- name: only_in_room
-- What the events and the state of a room plainly refer to, and those of no other room seem to.
WITH event AS (
    SELECT e.room_id = $1 AS here, e.headered_event_json AS raw,
           pg_temp.retentiond_content(e.headered_event_json) AS content
    FROM (SELECT room_id, headered_event_json FROM syncapi_output_room_events
          UNION ALL
          SELECT room_id, headered_event_json FROM syncapi_current_room_state) e
    WHERE e.headered_event_json LIKE '%mxc%' OR e.headered_event_json LIKE '%\\u00%'
    OFFSET 0
)
SELECT k.media_id, k.media_origin
FROM event CROSS JOIN LATERAL pg_temp.retentiond_strings(content) s(mention)
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
WHERE k.plain AND here AND jsonb_typeof(content) = 'object'
EXCEPT
SELECT k.media_id, k.media_origin
FROM event CROSS JOIN LATERAL (
    SELECT x AS mention FROM pg_temp.retentiond_strings(content) AS x WHERE jsonb_typeof(content) = 'object'
    UNION ALL
    SELECT pg_temp.retentiond_raw(raw) WHERE jsonb_typeof(content) IS DISTINCT FROM 'object') s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
WHERE NOT here

-- name: take_referred
-- Takes what a source in the same database says; the source's own parameter is $1.
INSERT INTO pg_temp.referred (media_id, media_origin)
SELECT r.media_id, r.media_origin FROM ({source}) r
ON CONFLICT DO NOTHING

-- name: take_keys
-- Takes a page of what a source elsewhere says.
INSERT INTO pg_temp.referred (media_id, media_origin)
SELECT k.media_id, k.media_origin FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
ON CONFLICT DO NOTHING

-- name: media_page
-- The medium of that ID and server, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, false AS referred_to
FROM mediaapi_media_repository m
WHERE m.media_id = $4 AND m.media_origin = $5 AND (m.media_id, m.media_origin) > ($1::text, $2::text)
LIMIT $3

-- name: origin_page
-- A page of the media of a server, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, false AS referred_to
FROM mediaapi_media_repository m
WHERE lower(m.media_origin) = lower($4) AND (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: user_page
-- A page of what a user uploaded or refers to, after a key.
SELECT * FROM (
    SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
           m.user_id, EXISTS (SELECT FROM pg_temp.referred f
                              WHERE f.media_id = m.media_id COLLATE "C" AND f.media_origin = m.media_origin COLLATE "C")
                      AS referred_to
    FROM mediaapi_media_repository m
    WHERE (m.media_id, m.media_origin) > ($1::text, $2::text)) p
WHERE p.user_id = $4 OR p.referred_to
ORDER BY p.media_id, p.media_origin
LIMIT $3

-- name: room_page
-- A page of what a room refers to, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, true AS referred_to
FROM pg_temp.referred f
JOIN mediaapi_media_repository m
  ON m.media_id = f.media_id COLLATE "default" AND m.media_origin = f.media_origin COLLATE "default"
WHERE (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: referred_keys
-- Which of these keys the user or room of the request refers to.
SELECT f.media_id, f.media_origin FROM pg_temp.referred f
JOIN unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
  ON f.media_id = k.media_id COLLATE "C" AND f.media_origin = k.media_origin COLLATE "C"
