-- References of a held room or user, the members of a held room, and when they were read. Each source is one
-- statement over one table, for the room or user in $1; references are cut out of events as for the protections, and
-- all mentions in an unparsable text count. {hold_media} and {hold_member} are the ledger's tables, or a plan's own
-- copies of them.

-- name: events
-- All mentions in the content of these events, avatars of members too.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT headered_event_json AS raw,
             pg_temp.retentiond_content(headered_event_json, room_id || ' ' || event_id) AS content
      FROM {table}
      WHERE {whose} = $1 AND (headered_event_json LIKE '%mxc%' OR headered_event_json LIKE '%\\u00%')
      OFFSET 0) e
CROSS JOIN LATERAL (
    SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE json_typeof(e.content) = 'object'
    UNION ALL
    SELECT pg_temp.retentiond_raw(e.raw) WHERE json_typeof(e.content) IS DISTINCT FROM 'object') s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k

-- name: profile
-- The avatar of a local user.
SELECT DISTINCT k.media_id, k.media_origin
FROM userapi_profiles p
CROSS JOIN LATERAL pg_temp.retentiond_windows(p.avatar_url) AS w(text)
CROSS JOIN LATERAL pg_temp.retentiond_keys(w.text) k
WHERE '@' || p.localpart || ':' || p.server_name = $1

-- name: members
-- Every user who is or may have been a member of the room, or sent an event to it. Pictures stay after a member
-- left; an invitation or a knock alone sends none. Invalid and overlong user IDs are left out.
SELECT DISTINCT m.user_id
FROM (SELECT state_key AS user_id FROM syncapi_current_room_state
      WHERE room_id = $1 AND type = 'm.room.member' AND coalesce(membership, '') NOT IN ('invite', 'knock')
      UNION ALL
      SELECT sender FROM syncapi_current_room_state WHERE room_id = $1
      UNION ALL
      SELECT sender FROM syncapi_output_room_events WHERE room_id = $1) m
WHERE m.user_id LIKE '@%:_%' AND octet_length(m.user_id) <= 1024

-- name: encryption
-- Whether the references in the room's messages can be read: `plain` needs a state without encryption, and no
-- event that shows it, even a rejected one.
SELECT CASE WHEN EXISTS (SELECT FROM syncapi_current_room_state WHERE room_id = $1 AND type = 'm.room.encryption')
              OR EXISTS (SELECT FROM syncapi_output_room_events
                         WHERE room_id = $1 AND type IN ('m.room.encrypted', 'm.room.encryption')) THEN 'encrypted'
            WHEN EXISTS (SELECT FROM syncapi_current_room_state WHERE room_id = $1) THEN 'plain'
            ELSE 'unknown' END

-- name: unread_holds
-- Holds in force whose references were not read completely since the given time.
SELECT h.hold_id, h.kind, h.subject, h.with_members
FROM retentiond.hold_in_force h LEFT JOIN retentiond.hold_reading r ON r.hold_id = h.hold_id
WHERE h.kind IN ('room', 'user') AND (r.begun_at IS NULL OR r.begun_at < $1)
ORDER BY h.hold_id

-- name: any_never_read
-- Whether the references of any hold in force were never read completely.
SELECT EXISTS (SELECT FROM retentiond.hold_in_force h
               WHERE h.kind IN ('room', 'user')
                 AND NOT EXISTS (SELECT FROM retentiond.hold_reading r WHERE r.hold_id = h.hold_id AND r.begun_at > '-infinity'))

-- name: oldest_reading
-- When the oldest of the readings began on which holds in force rely.
SELECT min(r.begun_at)
FROM retentiond.hold_in_force h JOIN retentiond.hold_reading r ON r.hold_id = h.hold_id
WHERE h.kind IN ('room', 'user')

-- name: lock_reading
-- One reader for each hold at a time, by the row with the time of its reading: the rows of two readers would wait
-- for each other.
INSERT INTO retentiond.hold_reading AS r (hold_id, begun_at) VALUES ($1, '-infinity')
ON CONFLICT (hold_id) DO UPDATE SET begun_at = r.begun_at

-- name: note_reading
INSERT INTO retentiond.hold_reading (hold_id, begun_at) VALUES ($1, $2)
ON CONFLICT (hold_id) DO UPDATE SET begun_at = excluded.begun_at

-- name: add_references
-- Adds the references of a source in the same database; the source's own parameter is $1.
INSERT INTO {hold_media} (hold_id, media_id, media_origin)
SELECT $2::bigint, r.media_id, r.media_origin FROM ({source}) r
ON CONFLICT DO NOTHING

-- name: add_keys
-- Adds a page of references from a source in another database.
INSERT INTO {hold_media} (hold_id, media_id, media_origin)
SELECT $1::bigint, k.media_id, k.media_origin FROM unnest($2::text[], $3::text[]) AS k(media_id, media_origin)
ON CONFLICT DO NOTHING

-- name: add_members
-- Adds members of a room, from a source whose own parameter is $1: local users (with a name in $3) as users, and
-- others as their servers; if no name is known, both.
INSERT INTO {hold_member} (hold_id, kind, subject)
SELECT DISTINCT $2::bigint, f.kind, f.subject
FROM ({source}) u
CROSS JOIN LATERAL (SELECT lower(substr(u.user_id, strpos(u.user_id, ':') + 1) COLLATE "C") AS name) s
CROSS JOIN LATERAL (
    SELECT 'user' AS kind, u.user_id AS subject WHERE cardinality($3::text[]) = 0 OR s.name = ANY ($3::text[])
    UNION ALL
    SELECT 'origin', s.name WHERE s.name <> ALL ($3::text[])) f
ON CONFLICT DO NOTHING

-- name: page_of_members
-- A page of members that was read from another database.
SELECT p.user_id FROM unnest($1::text[]) AS p(user_id)

-- name: make_plan_holds
-- A plan's copy, which ends with the connection.
CREATE TEMPORARY TABLE plan_hold_media (LIKE retentiond.hold_media INCLUDING INDEXES)

-- name: make_plan_members
CREATE TEMPORARY TABLE plan_hold_member (LIKE retentiond.hold_member INCLUDING INDEXES)

-- name: fill_plan_holds
INSERT INTO pg_temp.plan_hold_media
SELECT x.* FROM retentiond.hold_media x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id

-- name: fill_plan_members
INSERT INTO pg_temp.plan_hold_member
SELECT x.* FROM retentiond.hold_member x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
