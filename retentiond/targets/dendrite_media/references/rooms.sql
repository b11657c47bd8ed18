-- Kinds of rooms: rooms that this server's users have left, rooms that were upgraded, and since when. They are
-- collected in a temporary table on the connection that reads the messages.

-- name: sent_at_function
-- The time at which an event claims to have been sent, in milliseconds; NULL if that is not a number, before 2017
-- or in the future.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_sent_at(given text) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT {parallel} AS $$
DECLARE
    sent bigint;
BEGIN
    sent := (given::json ->> 'origin_server_ts')::bigint;
    RETURN CASE WHEN sent BETWEEN 1483228800000 AND extract(epoch FROM clock_timestamp()) * 1000 + 60000 THEN sent END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$

-- name: drop_room_kinds
DROP TABLE IF EXISTS pg_temp.retentiond_room

-- name: make_room_kinds
-- The rooms that are known for certain to be of a kind, and since when, in milliseconds; NULL if unknown. Only
-- events that this server sent may have a time that can be trusted, and only if no earlier event of ours in the room
-- claims a later time (by a minute, since requests overtake each other): clients and bridges may set the time of an
-- event (`?ts=`). `event` names the event that changed the room: it differs if the room was of another kind in
-- between. The table ends with the connection.
CREATE TEMPORARY TABLE retentiond_room (
    room_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    since_ms bigint,
    event text COLLATE "C" NOT NULL
)

-- name: vacated_rooms
-- Rooms that dendrite knows, and that no user of this server is in, is invited to (2) or knocks at (4). A room
-- unknown to dendrite is not known to be empty. dendrite numbers events as it stores them, so a later leave has a
-- larger number.
SELECT r.room_id, 'no_local_members' AS kind, NULL::bigint AS since_ms,
       (SELECT coalesce(max(m.event_nid), 0) FROM roomserver_membership m
        WHERE m.room_nid = r.room_nid AND m.target_local)::text AS event
FROM roomserver_rooms r
WHERE NOT EXISTS (SELECT FROM roomserver_membership m
                  WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid <> 1)

-- name: upgraded_rooms
-- Rooms that were upgraded, whether or not people are left in them; a redacted tombstone proves nothing.
SELECT e.room_id, 'upgraded' AS kind,
       CASE WHEN lower(substr(e.sender, strpos(e.sender, ':') + 1) COLLATE "C") IN (SELECT name FROM pg_temp.retentiond_server)
             AND NOT EXISTS (
                 SELECT FROM syncapi_output_room_events o
                 WHERE o.room_id = e.room_id AND o.id < e.place
                   AND lower(substr(o.sender, strpos(o.sender, ':') + 1) COLLATE "C") IN (SELECT name FROM pg_temp.retentiond_server)
                   AND pg_temp.retentiond_sent_at(o.headered_event_json) > e.sent_ms + 60000)
            THEN e.sent_ms END AS since_ms,
       e.event_id AS event
FROM (SELECT room_id, event_id, sender, pg_temp.retentiond_sent_at(headered_event_json) AS sent_ms,
             coalesce((SELECT t.id FROM syncapi_output_room_events t WHERE t.event_id = s.event_id), s.added_at) AS place,
             pg_temp.retentiond_content(headered_event_json, room_id || ' ' || event_id) AS content
      FROM syncapi_current_room_state s
      WHERE type = 'm.room.tombstone' AND state_key = ''
      OFFSET 0) e
WHERE e.content ->> 'replacement_room' <> ''

-- name: take_room_kinds
-- Takes the rooms of a statement in the same database.
INSERT INTO pg_temp.retentiond_room (room_id, kind, since_ms, event)
SELECT r.room_id, r.kind, r.since_ms, r.event FROM ({source}) r

-- name: doubt_vacated_rooms
-- A room is not left if its state shows a member with a name of ours, or an invite or a knock of one, or if an
-- invite to it is pending, whatever the other tables say.
DELETE FROM pg_temp.retentiond_room v
WHERE v.kind = 'no_local_members'
  AND (EXISTS (SELECT FROM syncapi_current_room_state s
               WHERE s.room_id COLLATE "C" = v.room_id AND s.type = 'm.room.member'
                 AND s.membership IN ('join', 'invite', 'knock')
                 AND lower(substr(s.state_key, strpos(s.state_key, ':') + 1) COLLATE "C")
                     IN (SELECT name FROM pg_temp.retentiond_server))
       OR EXISTS (SELECT FROM syncapi_invite_events i WHERE i.room_id COLLATE "C" = v.room_id AND NOT i.deleted))

-- name: date_vacated_rooms
-- A room is left since the last of our users left it, if the time of each leave is known.
UPDATE pg_temp.retentiond_room v SET since_ms = l.since_ms
FROM (SELECT m.room_id, CASE WHEN count(*) = count(m.left_ms) THEN max(m.left_ms) END AS since_ms
      FROM (SELECT s.room_id COLLATE "C" AS room_id,
                   CASE WHEN s.membership IN ('leave', 'ban')
                             AND lower(substr(s.sender, strpos(s.sender, ':') + 1) COLLATE "C")
                                 IN (SELECT name FROM pg_temp.retentiond_server)
                        THEN pg_temp.retentiond_sent_at(s.headered_event_json) END AS left_ms
            FROM syncapi_current_room_state s
            WHERE s.type = 'm.room.member'
              AND lower(substr(s.state_key, strpos(s.state_key, ':') + 1) COLLATE "C")
                  IN (SELECT name FROM pg_temp.retentiond_server)
              AND s.room_id COLLATE "C" IN (SELECT r.room_id FROM pg_temp.retentiond_room r)
            OFFSET 0) m
      GROUP BY m.room_id) l
WHERE v.kind = 'no_local_members' AND v.room_id = l.room_id

-- name: doubt_dates
-- After all of our users have left a room, none of them can send anything to it.
UPDATE pg_temp.retentiond_room v SET since_ms = NULL
WHERE v.kind = 'no_local_members' AND v.since_ms IS NOT NULL
  AND (SELECT bool_or(pg_temp.retentiond_sent_at(o.headered_event_json) > v.since_ms + 60000)
       FROM syncapi_output_room_events o
       WHERE o.room_id = v.room_id COLLATE "default"
         AND lower(substr(o.sender, strpos(o.sender, ':') + 1) COLLATE "C") IN (SELECT name FROM pg_temp.retentiond_server))
