-- The daemon that works on a target. Its lock (locks.sql) is held on a connection of its own while the daemon lives, and the
-- name of that connection names the daemon: so a dead daemon is never named.

-- name: sign
-- Names this session.
SELECT set_config('application_name', $1, false)

-- name: end_leadership
-- Releases every lock of this session, which has no others.
SELECT pg_advisory_unlock_all()

-- name: beat
-- The daemon's sign of life.
INSERT INTO retentiond.daemon (host, pid, beat_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (host) DO UPDATE SET pid = excluded.pid, beat_at = excluded.beat_at

-- name: end_beat
DELETE FROM retentiond.daemon WHERE host = $1 AND pid = $2

-- name: daemons
-- The daemons that gave a sign of life within the last three minutes.
SELECT host, pid FROM retentiond.daemon WHERE beat_at > clock_timestamp() - interval '3 minutes'
