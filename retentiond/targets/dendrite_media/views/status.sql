-- How the quarantine stands.

-- name: quarantine_summary
-- What lies in quarantine, by state.
SELECT state, count(*) AS entries, coalesce(sum(bytes), 0)::bigint AS bytes FROM retentiond.entry GROUP BY state

-- name: settling
-- When the settle of the first and of the last of it is over: what is over already is over now. Rows whose file stays, of
-- another row, settle as long as $1 says.
SELECT min(s.over) AS first, max(s.over) AS last FROM (
    SELECT greatest(renamed_at + settle, statement_timestamp()) AS over
    FROM retentiond.entry WHERE renamed_at IS NOT NULL AND state <> 'lost'
    UNION ALL
    SELECT greatest(r.released_at + $1::interval, statement_timestamp())
    FROM retentiond.released_media r
    WHERE r.had_file AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob')
) s

-- name: released_summary
-- Released rows that can still be brought back, and when the last grace ends. A row whose file was missing, is lost, or
-- was of another size than the row says, cannot, though its copy is kept until its grace is over.
SELECT count(*) AS items, max(r.grace_until) AS until FROM retentiond.released_media r
WHERE r.had_file AND (r.file_bytes IS NULL OR r.file_size_bytes <= 0 OR r.file_bytes = r.file_size_bytes) AND (
    NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob' AND e.state = 'lost')
    OR EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob' AND e.state <> 'lost'))

-- name: entry_problems
-- What entries could not be worked on for, the most frequent first.
SELECT problem, count(*) AS entries FROM retentiond.entry WHERE problem IS NOT NULL
GROUP BY problem ORDER BY 2 DESC, 1 LIMIT 5
