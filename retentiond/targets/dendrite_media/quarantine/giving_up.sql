-- Failures of entries, and when they are tried again.

-- name: note_failures
-- Lets go of entries that could not be worked on. The next sweep tries again; after a second failure in a row they wait
-- a minute, then three, seven and so on, up to an hour; a sweep of everything, which a daemon does once an hour, does
-- not wait.
UPDATE retentiond.entry e
SET claimed_by = NULL, problem = p.problem, failures = e.failures + 1,
    state = CASE WHEN e.state = 'restoring' THEN 'quarantined' ELSE e.state END,
    retry_at = clock_timestamp() + least(interval '1 hour', interval '1 minute' * (2 ^ least(e.failures, 6) - 1))
FROM unnest($1::bigint[], $2::text[]) AS p(id, problem)
WHERE e.entry_id = p.id AND e.claimed_by = $3
