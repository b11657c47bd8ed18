-- Media that an encrypted room may show. Events of encrypted rooms hide their references, so the rule depends on
-- the possible senders: users who are or were in an encrypted room since the upload may show their uploads. Media of
-- another server may be sent by anyone, so any of them may be shown as soon as a user of this server is or was in an
-- encrypted room. The content type proves nothing.

-- name: members
-- Each user with a name of ours ($1; all users if no name is known) who is or was in an encrypted room, and until
-- when, in milliseconds. A room is encrypted if its state says so, or if an encrypted message was sent to it,
-- whatever its state says now. NULL is no end: the user is a member, or was invited, or the time of the leave is
-- unknown. Only a leave that this server sent may have a time that can be trusted, and only if the user did not send
-- an event to the room that claims a later one (by a minute, since requests overtake each other): clients and bridges
-- may set the time of an event (`?ts=`).
WITH encrypted AS (
    SELECT s.room_id COLLATE "C" AS room_id FROM syncapi_current_room_state s WHERE s.type = 'm.room.encryption'
    UNION
    SELECT o.room_id COLLATE "C" FROM syncapi_output_room_events o WHERE o.type IN ('m.room.encrypted', 'm.room.encryption')
), member AS MATERIALIZED (
    SELECT e.room_id, s.state_key COLLATE "C" AS user_id,
           CASE WHEN s.membership IN ('leave', 'ban')
                     AND lower(substr(s.sender, strpos(s.sender, ':') + 1) COLLATE "C") = ANY ($1::text[])
                THEN pg_temp.retentiond_sent_at(s.headered_event_json) END AS until_ms
    FROM encrypted e JOIN syncapi_current_room_state s ON s.room_id COLLATE "C" = e.room_id
    WHERE s.type = 'm.room.member'
      AND (cardinality($1::text[]) = 0 OR lower(substr(s.state_key, strpos(s.state_key, ':') + 1) COLLATE "C") = ANY ($1::text[]))
), sent AS (
    SELECT m.room_id, m.user_id, m.until_ms, o.id
    FROM member m JOIN syncapi_output_room_events o ON o.room_id COLLATE "C" = m.room_id AND o.sender COLLATE "C" = m.user_id
    WHERE m.until_ms IS NOT NULL
    OFFSET 0
), belied AS (
    -- The texts are read one by one: a sort or hash would write them to the disk once more.
    SELECT DISTINCT e.room_id, e.user_id FROM sent e
    WHERE (SELECT pg_temp.retentiond_sent_at(o.headered_event_json) FROM syncapi_output_room_events o WHERE o.id = e.id)
          > e.until_ms + 60000
)
SELECT m.user_id, CASE WHEN count(*) = count(m.until_ms) FILTER (WHERE b.room_id IS NULL) THEN max(m.until_ms) END AS until_ms
FROM member m LEFT JOIN belied b ON b.room_id = m.room_id AND b.user_id = m.user_id
GROUP BY m.user_id

-- name: shown
-- A part of other statements: the pseudo-source of a row (user_id, media_origin and creation_ts of {row}) that an
-- encrypted room may show, by the members of the copy {copy}: `encrypted` for an upload to this server, whose names
-- are {names}, and `encrypted_remote` for media of other servers. Without a member no row may be shown; with one, any
-- row of another server, and any upload without a valid user. A leave counts as a day later: bridges give events the
-- times of another network, which are before their own uploads.
SELECT s.source
FROM (SELECT CASE WHEN {row}.user_id <> '' OR lower({row}.media_origin COLLATE "C") = ANY ({names}::text[])
                  THEN 'encrypted' ELSE 'encrypted_remote' END AS source) s
WHERE EXISTS (SELECT FROM {reference}_member e WHERE e.copy_id = {copy})
  AND ({row}.user_id NOT LIKE '@%:%'
       OR EXISTS (SELECT FROM {reference}_member e
                  WHERE e.copy_id = {copy} AND e.user_id = {row}.user_id COLLATE "C"
                    AND coalesce(e.until_ms + 86400000 >= {row}.creation_ts, true)))
