-- The secondary stores of a purge in the ledger. The purge of an account and each request to erase a visitor have their own
-- progress in a store: {store} is the table of one or the other, and {subject} its column for the account or the request.

-- name: begin_of_account
-- The notes of an earlier purge are kept, and this purge continues from them. Its date is kept, too, if it is later and the
-- purge was not finished.
INSERT INTO retentiond.chat_store (target, account, store, pass_id, cutoff, state)
VALUES ($1, $2, $3, $4, $5, 'pending')
ON CONFLICT (target, account, store) DO UPDATE
SET pass_id = excluded.pass_id, state = excluded.state,
    cutoff = CASE WHEN chat_store.state = 'finished' THEN excluded.cutoff
                  ELSE greatest(chat_store.cutoff, excluded.cutoff) END,
    undone_since = CASE WHEN chat_store.state = 'finished' THEN excluded.undone_since ELSE chat_store.undone_since END

-- name: begin_of_request
INSERT INTO retentiond.chat_erasure_store (target, erasure_id, store, cutoff, state) VALUES ($1, $2, $3, $4, 'pending')
ON CONFLICT (target, erasure_id, store) DO UPDATE SET state = excluded.state, cutoff = excluded.cutoff

-- name: start
-- The shards may differ from those of an earlier purge.
UPDATE {store} SET state = 'running', shards = '{}' WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: end
-- A purge up to an earlier date ($5) does not end one up to a later date.
UPDATE {store}
SET state = CASE WHEN $4::text = 'finished' AND cutoff > $5::timestamptz THEN 'pending' ELSE $4::text END, reason = $6,
    shards = $7::jsonb
WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: settle
-- Commits with the record of these rows ($4), which are exact or a minimum ($5): no other record has them.
UPDATE {store}
SET {counts}notes = CASE WHEN coalesce((notes->>'gone')::bigint, 0) <= $4::bigint
                 THEN notes - 'gone' - CASE WHEN $5::boolean THEN 'at_least' ELSE '' END ELSE notes END
WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: report_shards
UPDATE {store} SET shards = $4::jsonb WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: notes
SELECT notes FROM {store} WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: write_notes
UPDATE {store} SET notes = $4::jsonb WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: begin_step
UPDATE {store} SET notes = $4::jsonb, newest_hold = $5 WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: holds_of_last_step
SELECT newest_hold FROM {store} WHERE target = $1 AND {subject} = $2 AND store = $3

-- name: states_by_account
-- The stores of each account, as the last purge left them or a running purge has them now.
SELECT account, store, state, cutoff, undone_since, reason, shards FROM retentiond.chat_store
WHERE target = $1 ORDER BY account, store

-- name: unfinished
-- The stores whose purge is not finished; those of a running pass are left out if a pass is running ($2).
SELECT account, store, state, cutoff, undone_since, reason FROM retentiond.chat_store
WHERE target = $1 AND state <> 'finished'
  AND NOT ($2 AND pass_id IN (SELECT p.pass_id FROM retentiond.pass p WHERE p.state = 'running'))
ORDER BY account, store

-- name: running
-- The stores in which a purge of the account, or a step that it left, is running.
SELECT store FROM retentiond.chat_store
WHERE target = $1 AND account = $2 AND (state = 'running' OR notes <> '{}')
UNION
SELECT s.store FROM retentiond.chat_erasure_store s JOIN retentiond.chat_erasure e USING (erasure_id)
WHERE e.target = $1 AND e.account = $2 AND (s.state = 'running' OR s.notes <> '{}')
ORDER BY store
