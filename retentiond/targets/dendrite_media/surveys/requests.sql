-- The items of a request by hand. Only a plain mention makes an item part of a request: not one in an event that
-- does not parse, and not an ID of which another is only the beginning. To find other references to an item, every
-- mention counts.

-- name: drop_mentions
DROP TABLE IF EXISTS pg_temp.request_mention

-- name: make_mentions
-- Each mention of the media in question, by any sender in any room (a profile: in room ''). `own` are the plain
-- mentions by the user, or in the room, of the request. The table ends with the connection.
CREATE TEMPORARY TABLE request_mention (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    own boolean NOT NULL
)

-- name: sort_mentions
-- Senders are not part of the index: with one, a key that just fits would be too long.
CREATE INDEX request_mention_by_key ON pg_temp.request_mention (media_id, media_origin)

-- name: analyze_mentions
ANALYZE pg_temp.request_mention

-- name: drop_asked
DROP TABLE IF EXISTS pg_temp.retentiond_asked

-- name: make_asked
-- Media in question, whether or not an event of the user refers to them; on the connection that reads the events.
CREATE TEMPORARY TABLE retentiond_asked (media_id text COLLATE "C" NOT NULL, media_origin text COLLATE "C" NOT NULL)

-- name: asked
-- The uploads of the user of a request, and the references of the profile.
SELECT m.media_id, m.media_origin FROM mediaapi_media_repository m WHERE m.user_id = $1
UNION
SELECT x.media_id, x.media_origin FROM pg_temp.request_mention x

-- name: take_asked
INSERT INTO pg_temp.retentiond_asked (media_id, media_origin) SELECT a.media_id, a.media_origin FROM ({source}) a

-- name: profile
SELECT DISTINCT k.media_id, k.media_origin, '' AS room_id, $1::text AS sender, true AS own
FROM userapi_profiles p
CROSS JOIN LATERAL pg_temp.retentiond_windows(p.avatar_url) AS w(text)
CROSS JOIN LATERAL pg_temp.retentiond_keys(w.text) k
WHERE k.plain AND '@' || p.localpart || ':' || p.server_name = $1

-- name: events
-- Every mention, in messages and in the state of rooms, of the media in question or of those to which the user or
-- room ($1, which {whose} must equal) plainly refers.
WITH mention AS MATERIALIZED (
    SELECT k.media_id, k.media_origin, e.room_id, e.sender,
           bool_or(k.plain AND e.{whose} = $1 AND json_typeof(e.content) = 'object') IS TRUE AS own
    FROM (SELECT room_id, sender, headered_event_json AS raw,
                 pg_temp.retentiond_content(headered_event_json) AS content
          FROM (SELECT room_id, sender, headered_event_json FROM syncapi_output_room_events
                UNION ALL
                SELECT room_id, sender, headered_event_json FROM syncapi_current_room_state) r
          WHERE headered_event_json LIKE '%mxc%' OR headered_event_json LIKE '%\\u00%'
          OFFSET 0) e
    CROSS JOIN LATERAL (
        SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE json_typeof(e.content) = 'object'
        UNION ALL
        SELECT pg_temp.retentiond_raw(e.raw) WHERE json_typeof(e.content) IS DISTINCT FROM 'object') s
    CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
    GROUP BY k.media_id, k.media_origin, e.room_id, e.sender
), wanted AS (
    SELECT media_id, media_origin FROM mention WHERE own
    UNION
    SELECT media_id, media_origin FROM pg_temp.retentiond_asked
)
SELECT m.media_id, m.media_origin, m.room_id, m.sender, m.own
FROM mention m JOIN wanted w ON w.media_id = m.media_id AND w.media_origin = m.media_origin

-- name: take_mentions
-- Takes the rows of a source in the same database; the source's own parameter is $1.
INSERT INTO pg_temp.request_mention (media_id, media_origin, room_id, sender, own)
SELECT r.media_id, r.media_origin, r.room_id, r.sender, r.own FROM ({source}) r

-- name: facts
-- The facts about each of these rows: do events of the user, or in the room, plainly refer to it; is one of these
-- the uploader's; does anything in another room than the one in $3 refer to it?
SELECT k.media_id, k.media_origin,
       array_remove(ARRAY[CASE WHEN f.referred THEN 'referred' END, CASE WHEN f.by_uploader THEN 'by_uploader' END,
                          CASE WHEN f.elsewhere THEN 'elsewhere' END], NULL) AS facts
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
CROSS JOIN LATERAL (
    SELECT bool_or(x.own) AS referred, bool_or(x.own AND x.sender = m.user_id COLLATE "C") AS by_uploader,
           bool_or(x.room_id <> $3) AS elsewhere
    FROM pg_temp.request_mention x
    WHERE x.media_id = m.media_id COLLATE "C" AND x.media_origin = m.media_origin COLLATE "C") f

-- name: hidden
-- Those of these media that an encrypted room may show, by the pseudo-sources $3; $4 are the names of this server.
SELECT m.media_id, m.media_origin, ARRAY[h.source] AS sources
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
CROSS JOIN LATERAL ({shown}) h
WHERE h.source = ANY ($3::text[])

-- name: rooms
-- The rooms, except the one in $1, whose events mention media in question that are in the database; the most
-- mentioned first.
SELECT x.room_id, count(DISTINCT (x.media_id, x.media_origin)) AS items, count(*) OVER () AS rooms
FROM pg_temp.request_mention x
JOIN mediaapi_media_repository m
  ON m.media_id = x.media_id COLLATE "default" AND m.media_origin = x.media_origin COLLATE "default"
WHERE x.room_id NOT IN ('', $1)
GROUP BY x.room_id ORDER BY items DESC, x.room_id LIMIT $2

-- name: media_page
-- The media item with that ID and server, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id
FROM mediaapi_media_repository m
WHERE m.media_id = $4 AND m.media_origin = $5 AND (m.media_id, m.media_origin) > ($1::text, $2::text)
LIMIT $3

-- name: origin_page
-- A page of the media of a server, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id
FROM mediaapi_media_repository m
WHERE lower(m.media_origin COLLATE "C") = lower($4 COLLATE "C") AND (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: mentioned_page
-- A page of the uploads of the user ($4), and of the plain references of the user or room, after a key.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id
FROM mediaapi_media_repository m
WHERE (m.media_id, m.media_origin) > ($1::text, $2::text)
  AND (m.user_id = $4 OR EXISTS (SELECT FROM pg_temp.request_mention x
                                 WHERE x.own AND x.media_id = m.media_id COLLATE "C"
                                   AND x.media_origin = m.media_origin COLLATE "C"))
ORDER BY m.media_id, m.media_origin
LIMIT $3
