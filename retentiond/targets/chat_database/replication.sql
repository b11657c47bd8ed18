-- The standbys and subscribers of the server, from version 13 on. No statement reads a table of the product.

-- name: replicas
-- Every connection that streams WAL or changes, and every slot without a connection for which the server keeps WAL. Backups
-- do not count, nor do slots that were never used or are lost. A replica without replay (an archive of WAL) is measured by
-- the WAL on its disk, since its replay_lag grows without end. `inactive_since` came with PostgreSQL 17.
WITH wal AS (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS lsn
), sender AS (
    SELECT r.*, coalesce(r.replay_lsn, r.flush_lsn, r.write_lsn, r.sent_lsn) AS position FROM pg_stat_replication r
)
SELECT coalesce(nullif(r.application_name, ''), s.slot_name, format('pid %s', r.pid)) AS name,
       s.slot_name::text AS slot, coalesce(s.slot_type, 'physical') = 'logical' AS logical, true AS connected, r.state,
       CASE WHEN r.replay_lsn IS NULL THEN coalesce(r.flush_lag, r.write_lag) ELSE r.replay_lag END AS lag,
       pg_wal_lsn_diff(wal.lsn, r.position)::bigint AS bytes_behind, s.wal_status, NULL::interval AS gone_for
FROM sender r CROSS JOIN wal LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
WHERE r.state IS DISTINCT FROM 'backup'
UNION ALL
SELECT s.slot_name, s.slot_name, s.slot_type = 'logical', false, NULL, NULL,
       pg_wal_lsn_diff(wal.lsn, coalesce(s.confirmed_flush_lsn, s.restart_lsn))::bigint, s.wal_status,
       clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz
FROM pg_replication_slots s CROSS JOIN wal
WHERE s.restart_lsn IS NOT NULL AND s.wal_status IS DISTINCT FROM 'lost'
  AND NOT EXISTS (SELECT FROM sender r WHERE r.pid = s.active_pid)
ORDER BY 1

-- name: synchronous
-- The standbys for which a commit of this session waits, and the number of those that are in step.
SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN ''
            ELSE btrim(current_setting('synchronous_standby_names')) END AS names,
       (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS in_step,
       quote_ident(current_user) AS role
