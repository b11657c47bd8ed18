-- Which daemon looks after a target. The lock is held for as long as the daemon lives, on a connection of its own, and
-- says by its name who that is: so nobody who is gone is ever named.

-- name: try_duty
-- Takes the lock of the target of that name on this session, unless another has it.
SELECT pg_try_advisory_lock(1380931142, hashtext($1))

-- name: sign
-- Says on this session who we are.
SELECT set_config('application_name', $1, false)

-- name: on_duty
-- Who holds the lock, by the name of its session, and since when that is open.
SELECT a.application_name AS daemon, a.backend_start AS since
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = 1380931142 AND l.objsubid = 2 AND l.granted
  AND l.objid = (hashtext($1)::bigint & 4294967295)::oid
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: end_duty
SELECT pg_advisory_unlock(1380931142, hashtext($1))
