-- The daemon that works on a target. Its lock (locks.sql) is held on a connection of its own while the daemon lives, and the
-- name of that connection names the daemon: so a dead daemon is never named.

-- name: sign
-- Names this session.
SELECT set_config('application_name', $1, false)

-- name: end_leadership
-- Releases every lock of this session, which has no others.
SELECT pg_advisory_unlock_all()
