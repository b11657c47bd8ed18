-- Holds on rooms.

-- name: lock_holds
-- Of two that add an equal hold at once the second waits, and finds it; readers do not wait.
LOCK TABLE retentiond.hold IN SHARE ROW EXCLUSIVE MODE

-- name: equal_hold
-- A hold in force on the room ($1) that differs in nothing from the one to add.
SELECT h.hold_id FROM retentiond.hold h JOIN retentiond.hold_in_force f ON f.hold_id = h.hold_id
WHERE h.kind = 'room' AND h.subject = $1 AND h.until IS NOT DISTINCT FROM $2 AND h.reason = $3 AND h.with_members = $4
ORDER BY h.hold_id LIMIT 1

-- name: knows_room
SELECT EXISTS (SELECT FROM roomserver_rooms r WHERE r.room_id = $1)
