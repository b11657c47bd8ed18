-- The state of the quarantine.

-- name: quarantine_summary
-- The entries in quarantine, by state.
SELECT state, count(*) AS entries, coalesce(sum(bytes), 0)::bigint AS bytes FROM retentiond.entry GROUP BY state

-- name: settling
-- When the settle of the first and of the last entry is over, or now if that is past. Rows whose file stays, since
-- another row has it, settle for $1.
SELECT min(s.over) AS first, max(s.over) AS last FROM (
    SELECT greatest(renamed_at + settle, statement_timestamp()) AS over
    FROM retentiond.entry WHERE renamed_at IS NOT NULL AND state <> 'lost'
    UNION ALL
    SELECT greatest(r.released_at + $1::interval, statement_timestamp())
    FROM retentiond.released_media r
    WHERE r.had_file AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob')
) s

-- name: released_summary
-- Released rows that can still be restored, and when the last grace ends. A row whose file was missing, is lost, or
-- was of another size than the row says, cannot be restored, though its copy is kept until its grace is over.
SELECT count(*) AS items, max(r.grace_until) AS until FROM retentiond.released_media r
WHERE r.had_file AND (r.file_bytes IS NULL OR r.file_size_bytes <= 0 OR r.file_bytes = r.file_size_bytes) AND (
    NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob' AND e.state = 'lost')
    OR EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob' AND e.state <> 'lost'))

-- name: entry_problems
-- Why steps on entries failed, the most frequent first.
SELECT problem, count(*) AS entries FROM retentiond.entry WHERE problem IS NOT NULL
GROUP BY problem ORDER BY 2 DESC, 1 LIMIT 5
