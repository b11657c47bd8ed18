-- The table of the purges of rooms, which this file alone writes.

-- name: intend
-- Records a purge before its request; no row where another one of the room is open.
INSERT INTO retentiond.room_purge
    (target, pass_id, room_id, room_nid, policy, state, claimant, sent_at, bytes, rows_before, about)
VALUES ($1, $2, $3, $4, $5, 'sent', $6, pg_catalog.clock_timestamp(), $7, $8::jsonb, $9::jsonb)
ON CONFLICT DO NOTHING
RETURNING purge_id

-- name: change_state
-- Changes a purge of ours from one of the states that allow it; the states after which nothing is awaited end the claim.
UPDATE retentiond.room_purge
SET state = $3, reason = coalesce($5, reason), rows_after = coalesce($6::jsonb, rows_after),
    emptied_at = CASE WHEN $3 = 'emptied' THEN pg_catalog.clock_timestamp() ELSE emptied_at END,
    closed_at = CASE WHEN $3 = 'emptied' THEN closed_at ELSE pg_catalog.clock_timestamp() END,
    claimant = CASE WHEN $3 = 'emptied' THEN claimant END
WHERE purge_id = $1 AND claimant = $2 AND state = ANY ($4::text[])
RETURNING purge_id, target, pass_id, room_id, policy, state, sent_at, closed_at, bytes, rows_before, rows_after

-- name: leave
-- Ends a claim without a change: the next sweep goes on.
UPDATE retentiond.room_purge SET claimant = NULL WHERE purge_id = $1 AND claimant = $2

-- name: unfinished
-- The purges of a target that are open, or whose rows stay, with their claims.
SELECT purge_id, claimant FROM retentiond.room_purge
WHERE target = $1 AND state IN ('sent', 'emptied', 'rows_stay') ORDER BY purge_id

-- name: claim
-- Takes a purge that nobody works on, or whose claimant is dead.
UPDATE retentiond.room_purge SET claimant = $2
WHERE purge_id = $1 AND (claimant IS NULL OR claimant = ANY ($3::integer[])) AND state IN ('sent', 'emptied', 'rows_stay')
RETURNING purge_id, room_id, room_nid, policy, state, rows_before, coalesce(reason = 'accepted', false) AS accepted,
          pg_catalog.clock_timestamp() - sent_at AS sent_ago, pg_catalog.clock_timestamp() - emptied_at AS emptied_ago

-- name: accept_rows
-- Notes that an administrator knows of the rows that stay: the next look ends such a purge.
UPDATE retentiond.room_purge SET reason = 'accepted' WHERE target = $1 AND state = 'emptied'

-- name: note_returned
-- Purged rooms that are there again, since another server or a user brought them back; each is noted once.
UPDATE retentiond.room_purge p SET returned_at = pg_catalog.clock_timestamp()
WHERE p.target = $1 AND p.state IN ('purged', 'rows_stay') AND p.returned_at IS NULL
  AND EXISTS (SELECT FROM roomserver_rooms r WHERE r.room_id = p.room_id AND r.room_nid <> p.room_nid)
RETURNING p.room_id, p.closed_at

-- name: purged_page
-- Purged rooms of a target that are not there again, by number, a page.
SELECT p.purge_id, p.room_id, p.room_nid FROM retentiond.room_purge p
WHERE p.purge_id > $1 AND p.target = $3 AND p.state IN ('purged', 'rows_stay')
  AND NOT EXISTS (SELECT FROM roomserver_rooms r WHERE r.room_id = p.room_id)
ORDER BY p.purge_id LIMIT $2

-- name: open_purges
-- The unfinished purges, for a status.
SELECT room_id, state, sent_at FROM retentiond.room_purge
WHERE target = $1 AND state IN ('sent', 'emptied', 'rows_stay') ORDER BY purge_id LIMIT $2

-- name: purged_by_day
-- The purged rooms of a target by the day of their end, in UTC: those of passes, of sweeps and by hand.
SELECT (closed_at AT TIME ZONE 'UTC')::date AS day, pg_catalog.count(*) AS items, pg_catalog.sum(bytes)::bigint AS bytes
FROM retentiond.room_purge WHERE target = $1 AND state IN ('purged', 'rows_stay') GROUP BY 1 ORDER BY 1

-- name: has_open
SELECT EXISTS (SELECT FROM retentiond.room_purge WHERE room_id = $1 AND state IN ('sent', 'emptied'))

-- name: is_there
SELECT pg_catalog.to_regclass('retentiond.room_purge') IS NOT NULL

-- name: kept_page
-- What is kept of purged rooms of a target ($3), or of one room ($4), after a number.
SELECT p.purge_id, p.room_id, p.policy, p.state, p.closed_at, p.bytes, p.about FROM retentiond.room_purge p
WHERE p.purge_id > $1 AND p.target = $3 AND p.state IN ('purged', 'rows_stay') AND ($4::text IS NULL OR p.room_id = $4)
ORDER BY p.purge_id LIMIT $2
