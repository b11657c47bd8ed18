-- The daemon that looks after a target. Its lock (locks.sql) is held for as long as the daemon lives, on a connection of its
-- own, which says by its name what daemon that is: so none that is gone is ever named.

-- name: sign
-- Names this session.
SELECT set_config('application_name', $1, false)

-- name: end_duty
-- Gives back every lock of this session, which has no others.
SELECT pg_advisory_unlock_all()
