-- How the quarantine stands.

-- name: quarantine_summary
-- What lies in quarantine, by state.
SELECT state, count(*) AS entries, coalesce(sum(bytes), 0)::bigint AS bytes FROM retentiond.entry GROUP BY state

-- name: released_summary
-- Released rows that can still be brought back, and when the last grace ends.
SELECT count(*) AS items, max(grace_until) AS until FROM retentiond.released_media

-- name: entry_problems
-- What entries could not be worked on for, the most frequent first.
SELECT problem, count(*) AS entries FROM retentiond.entry WHERE problem IS NOT NULL
GROUP BY problem ORDER BY 2 DESC, 1 LIMIT 5
