-- The table of rooms that were seen without local members, which this file alone writes.

-- name: note_seen
-- Follows the survey in the temporary table: new rooms from now on, rooms with a newer event anew, and others not at all.
INSERT INTO retentiond.room_empty AS s (room_id, room_nid, last_event_nid, first_seen)
SELECT r.room_id, r.room_nid, r.last_event_nid, pg_catalog.clock_timestamp()
FROM pg_temp.retentiond_room r WHERE r.joined = 0 AND r.invites = 0 AND NOT r.state_disagrees
ON CONFLICT (room_id) DO UPDATE
SET room_nid = excluded.room_nid, last_event_nid = excluded.last_event_nid, first_seen = excluded.first_seen
WHERE s.room_nid <> excluded.room_nid OR s.last_event_nid <> excluded.last_event_nid OR s.first_seen > excluded.first_seen

-- name: forget_seen
-- Rooms that a user is in again or is awaited in, and rooms that are not there any more.
DELETE FROM retentiond.room_empty s
WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_room r
                  WHERE r.room_id = s.room_id AND r.joined = 0 AND r.invites = 0 AND NOT r.state_disagrees)

-- name: put_off_seen
-- In a gap, whose beginning may be unknown, it is not known how much time has passed: looks before its end count from so
-- much later.
UPDATE retentiond.room_empty SET first_seen = first_seen + ($2::timestamptz - greatest($1::timestamptz, first_seen))
WHERE first_seen < $2

-- name: take_seen
-- With a gap that no pass has put the looks off by.
UPDATE pg_temp.retentiond_room r
SET first_seen = CASE WHEN s.first_seen < $2::timestamptz
                      THEN s.first_seen + ($2 - greatest($1::timestamptz, s.first_seen)) ELSE s.first_seen END
FROM retentiond.room_empty s
WHERE s.room_id = r.room_id AND s.room_nid = r.room_nid AND s.last_event_nid = r.last_event_nid

-- name: take_holds
UPDATE pg_temp.retentiond_room r SET held = true
FROM retentiond.hold_in_force h WHERE h.kind = 'room' AND h.subject = r.room_id

-- name: let_pass
-- For the demo, which cannot wait: the first looks become so much older.
UPDATE retentiond.room_empty SET first_seen = first_seen - $1::interval
