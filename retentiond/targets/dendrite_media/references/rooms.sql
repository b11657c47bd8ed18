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

-- name: analyze_room_kinds
-- Else the planner takes the table for an almost empty one, and reads others once for each room.
ANALYZE pg_temp.retentiond_room

-- name: vacated_rooms
-- Rooms that dendrite knows, and that no user of this server is in, is invited to (2) or knocks at (4). A room
-- unknown to dendrite is not known to be empty. dendrite numbers events as it stores them, so a later leave has a
-- larger number.
SELECT r.room_id, 'no_local_members' AS kind, NULL::bigint AS since_ms, coalesce(m.event_nid, 0)::text AS event
FROM roomserver_rooms r
LEFT JOIN (SELECT room_nid, max(event_nid) AS event_nid, bool_or(membership_nid <> 1) AS present
           FROM roomserver_membership WHERE target_local GROUP BY room_nid) m ON m.room_nid = r.room_nid
WHERE m.present IS NOT TRUE

-- name: upgraded_rooms
-- Rooms that were upgraded, whether or not people are left in them; a redacted tombstone proves nothing.
WITH upgrade AS MATERIALIZED (
    SELECT s.room_id, s.event_id,
           CASE WHEN lower(substr(s.sender, strpos(s.sender, ':') + 1) COLLATE "C")
                     IN (SELECT name FROM pg_temp.retentiond_server)
                THEN pg_temp.retentiond_sent_at(s.headered_event_json) END AS sent_ms,
           coalesce(t.id, s.added_at) AS place
    FROM syncapi_current_room_state s LEFT JOIN syncapi_output_room_events t ON t.event_id = s.event_id
    WHERE s.type = 'm.room.tombstone' AND s.state_key = ''
      AND pg_temp.retentiond_content(s.headered_event_json, s.room_id || ' ' || s.event_id) ->> 'replacement_room' <> ''
), claimed AS (
    -- `+ 0` keeps an index on the numbers from being read from its beginning, once for each room.
    SELECT u.event_id, u.sent_ms, pg_temp.retentiond_sent_at(o.headered_event_json) AS earlier_ms
    FROM upgrade u JOIN syncapi_output_room_events o ON o.room_id = u.room_id AND o.id + 0 < u.place
    WHERE u.sent_ms IS NOT NULL
      AND lower(substr(o.sender, strpos(o.sender, ':') + 1) COLLATE "C") IN (SELECT name FROM pg_temp.retentiond_server)
    OFFSET 0
)
SELECT u.room_id, 'upgraded' AS kind,
       CASE WHEN u.event_id NOT IN (SELECT DISTINCT c.event_id FROM claimed c WHERE c.earlier_ms > c.sent_ms + 60000)
            THEN u.sent_ms END AS since_ms,
       u.event_id AS event
FROM upgrade u

-- name: take_room_kinds
-- Takes the rooms of a statement in the same database.
INSERT INTO pg_temp.retentiond_room (room_id, kind, since_ms, event)
SELECT r.room_id, r.kind, r.since_ms, r.event FROM ({source}) r

-- name: doubt_vacated_rooms
-- A room is not left if its state shows a member with a name of ours, or an invite or a knock of one, or if an
-- invite to it is pending, whatever the other tables say.
DELETE FROM pg_temp.retentiond_room v
WHERE v.kind = 'no_local_members'
  AND v.room_id IN (
      SELECT s.room_id COLLATE "C" FROM syncapi_current_room_state s
      WHERE s.type = 'm.room.member' AND s.membership IN ('join', 'invite', 'knock')
        AND lower(substr(s.state_key, strpos(s.state_key, ':') + 1) COLLATE "C")
            IN (SELECT name FROM pg_temp.retentiond_server)
      UNION
      SELECT i.room_id COLLATE "C" FROM syncapi_invite_events i WHERE NOT i.deleted)

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
FROM (SELECT c.room_id, max(c.sent_ms) AS sent_ms
      FROM (SELECT r.room_id, pg_temp.retentiond_sent_at(o.headered_event_json) AS sent_ms
            FROM pg_temp.retentiond_room r
            JOIN syncapi_output_room_events o ON o.room_id = r.room_id COLLATE "default"
            WHERE r.kind = 'no_local_members' AND r.since_ms IS NOT NULL
              AND lower(substr(o.sender, strpos(o.sender, ':') + 1) COLLATE "C")
                  IN (SELECT name FROM pg_temp.retentiond_server)
            OFFSET 0) c
      GROUP BY c.room_id) l
WHERE v.kind = 'no_local_members' AND v.room_id = l.room_id AND l.sent_ms > v.since_ms + 60000
