-- The session locks. Each key has two parts: its kind ($1), and a hash of the store and the lock's name ($2), so that a
-- role that does not know the store cannot hold one of them in advance.

-- name: ledger_exists
-- Whether this database has a table of the ledger. Read from the catalogue itself: to_regclass uses a cache of the session, which is
-- out of date after the wait for another process that creates the ledger.
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'retentiond' AND c.relname = $1)

-- name: key
-- A part of the other statements, where there is a ledger.
SELECT ('x' || left(encode(sha256(convert_to(s.store_id || ' ' || $2::text, 'UTF8')), 'hex'), 8))::bit(32)::integer AS key
FROM retentiond.store s

-- name: key_without_ledger
-- The same before there is a store to take it from.
SELECT ('x' || left(encode(sha256(convert_to($2::text, 'UTF8')), 'hex'), 8))::bit(32)::integer AS key

-- name: try_lock
-- Takes a lock on this session, unless another has it.
SELECT pg_try_advisory_lock($1::integer, k.key) FROM ({key}) k

-- name: unlock
SELECT pg_advisory_unlock($1::integer, k.key) FROM ({key}) k

-- name: holds_lock
-- Whether the backend of this transaction is the one that holds the lock (a pooler may have given us another).
SELECT EXISTS (
    SELECT FROM pg_locks l, ({key}) k
    WHERE l.locktype = 'advisory' AND l.classid = $1::integer::oid AND l.objid = k.key::oid AND l.objsubid = 2 AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.pid = pg_backend_pid())

-- name: holder
-- The session that holds the lock. Of another role's session a role sees the role and the process only, unless it may
-- read all statistics.
SELECT coalesce(a.usename, '?')::text AS role, l.pid AS process, host(a.client_addr) AS address, a.backend_start AS since,
       a.application_name AS name, coalesce(a.usename = current_user, false) AS own_role, l.pid = pg_backend_pid() AS asking
FROM ({key}) k
JOIN pg_locks l ON l.locktype = 'advisory' AND l.classid = $1::integer::oid AND l.objid = k.key::oid AND l.objsubid = 2
               AND l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
