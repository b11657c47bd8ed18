-- Media that an encrypted room may show. No event of such a room shows a reference, so the rule is who could have sent one:
-- a user who is or was in an encrypted room since the upload; and of other servers' media anyone, so that any of them
-- may be shown as soon as a user of this server is or was in such a room. The content type proves nothing.

-- name: members
-- Each user with a name of ours ($1; all users where none is known) who is or was in an encrypted room, and until when,
-- in milliseconds. A room is encrypted that says so, or where an encrypted message was sent, whatever its state says now.
-- NULL is no end: the user is a member, or was invited, or it is not known when the user left. Only a leave that this
-- server sent may have a time that can be trusted, and only if the user did not send an event to the room that claims a
-- later one (by a minute, since requests overtake each other): clients and bridges may name the time of an event (`?ts=`).
WITH encrypted AS (
    SELECT s.room_id COLLATE "C" AS room_id FROM syncapi_current_room_state s WHERE s.type = 'm.room.encryption'
    UNION
    SELECT o.room_id COLLATE "C" FROM syncapi_output_room_events o WHERE o.type IN ('m.room.encrypted', 'm.room.encryption')
), member AS MATERIALIZED (
    SELECT e.room_id, s.state_key COLLATE "C" AS user_id,
           CASE WHEN s.membership IN ('leave', 'ban')
                     AND lower(substr(s.sender, strpos(s.sender, ':') + 1)) = ANY ($1::text[])
                THEN pg_temp.retentiond_sent_at(s.headered_event_json) END AS until_ms
    FROM encrypted e JOIN syncapi_current_room_state s ON s.room_id COLLATE "C" = e.room_id
    WHERE s.type = 'm.room.member'
      AND (cardinality($1::text[]) = 0 OR lower(substr(s.state_key, strpos(s.state_key, ':') + 1)) = ANY ($1::text[]))
), sent AS (
    SELECT m.room_id, m.user_id, m.until_ms, o.id
    FROM member m JOIN syncapi_output_room_events o ON o.room_id COLLATE "C" = m.room_id AND o.sender COLLATE "C" = m.user_id
    WHERE m.until_ms IS NOT NULL
    OFFSET 0
), belied AS (
    -- The texts are read one by one: sorted or hashed they would be written to the disk once more.
    SELECT DISTINCT e.room_id, e.user_id FROM sent e
    WHERE (SELECT pg_temp.retentiond_sent_at(o.headered_event_json) FROM syncapi_output_room_events o WHERE o.id = e.id)
          > e.until_ms + 60000
)
SELECT m.user_id, CASE WHEN count(*) = count(m.until_ms) FILTER (WHERE b.room_id IS NULL) THEN max(m.until_ms) END AS until_ms
FROM member m LEFT JOIN belied b ON b.room_id = m.room_id AND b.user_id = m.user_id
GROUP BY m.user_id

-- name: drop_members
DROP TABLE IF EXISTS pg_temp.retentiond_member

-- name: make_members
-- The users of encrypted rooms, beside the media; the table goes with the connection.
CREATE TEMPORARY TABLE retentiond_member (user_id text COLLATE "C" NOT NULL, until_ms bigint)

-- name: take_members
-- Takes the users from a database that is the media's own, too.
INSERT INTO pg_temp.retentiond_member (user_id, until_ms) SELECT r.user_id, r.until_ms FROM ({source}) r

-- name: stored
-- Media with a row: enough for a plan.
SELECT m.media_id, m.media_origin, m.user_id, m.creation_ts FROM mediaapi_media_repository m

-- name: stored_and_released
-- Media with a row, and media that were released and can come back.
SELECT m.media_id, m.media_origin, m.user_id, m.creation_ts FROM mediaapi_media_repository m
UNION ALL
SELECT r.media_id, r.media_origin, r.user_id, r.creation_ts FROM retentiond.released_media r

-- name: copy_encrypted
-- Adds the media that an encrypted room may show to the copy $1, of the pseudo-sources $2: uploads to this server (its
-- names are $3) and media of other servers. Uploads without a valid user are kept; none is, before the first member.
-- A leave counts as a day later: bridges give events the times of another network, which lie before their own uploads.
INSERT INTO {reference} (copy_id, source, media_id, media_origin)
SELECT $1::bigint, f.source, u.media_id, u.media_origin
FROM ({media}) u
LEFT JOIN pg_temp.retentiond_member e ON e.user_id = u.user_id COLLATE "C"
CROSS JOIN LATERAL (
    SELECT CASE WHEN u.user_id <> '' OR lower(u.media_origin) = ANY ($3::text[])
                THEN 'encrypted' ELSE 'encrypted_remote' END AS source) f
WHERE EXISTS (SELECT FROM pg_temp.retentiond_member) AND f.source = ANY ($2::text[])
  AND (u.user_id NOT LIKE '@%:%' OR (e.user_id IS NOT NULL AND coalesce(e.until_ms + 86400000 >= u.creation_ts, true)))
