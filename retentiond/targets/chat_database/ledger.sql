-- What the ledger keeps of chat purges.

-- name: begin_purge
INSERT INTO retentiond.chat_purge (pass_id, account, to_date, cutoff, file_messages, stats)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: note_purge
-- Commits with the batch that it tells of.
UPDATE retentiond.chat_purge SET report = $3::jsonb WHERE pass_id = $1 AND account = $2

-- name: committed_purge
-- What the batches that were committed took, by their own word: whoever was cut off at a COMMIT does not know it.
SELECT report FROM retentiond.chat_purge WHERE pass_id = $1 AND account = $2

-- name: end_purge
UPDATE retentiond.chat_purge SET state = $3, report = $4::jsonb WHERE pass_id = $1 AND account = $2

-- name: note_name
INSERT INTO retentiond.chat_account (schema_name, column_value, account) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: knows_names
SELECT to_regclass('retentiond.chat_account') IS NOT NULL

-- name: names
SELECT account FROM retentiond.chat_account WHERE schema_name = $1 AND column_value = $2 ORDER BY account

-- name: begin_store
-- What an earlier purge wrote down stays, for this one to go on from; so does its date, where that is later and was not
-- reached.
INSERT INTO retentiond.chat_store (target, account, store, pass_id, cutoff, state)
VALUES ($1, $2, $3, $4, $5, 'pending')
ON CONFLICT (target, account, store) DO UPDATE
SET pass_id = excluded.pass_id, state = excluded.state,
    cutoff = CASE WHEN chat_store.state = 'finished' THEN excluded.cutoff
                  ELSE greatest(chat_store.cutoff, excluded.cutoff) END,
    undone_since = CASE WHEN chat_store.state = 'finished' THEN excluded.undone_since ELSE chat_store.undone_since END

-- name: store_runs
-- The shards that an earlier purge reported may be others now.
UPDATE retentiond.chat_store SET state = 'running', shards = '{}' WHERE target = $1 AND account = $2 AND store = $3

-- name: running_stores
-- The stores in which a purge of the account is at work, or has left something at work.
SELECT store FROM retentiond.chat_store
WHERE target = $1 AND account = $2 AND (state = 'running' OR notes <> '{}')
UNION
SELECT s.store FROM retentiond.chat_erasure_store s JOIN retentiond.chat_erasure e USING (erasure_id)
WHERE e.target = $1 AND e.account = $2 AND (s.state = 'running' OR s.notes <> '{}')
ORDER BY store

-- name: note_store
-- A purge up to an earlier date does not end one that was meant to go further.
UPDATE retentiond.chat_store
SET state = CASE WHEN $4::text = 'finished' AND cutoff > $5::timestamptz THEN 'pending' ELSE $4::text END, reason = $6,
    shards = $7::jsonb
WHERE target = $1 AND account = $2 AND store = $3

-- name: report_shards
UPDATE retentiond.chat_store SET shards = $4::jsonb WHERE target = $1 AND account = $2 AND store = $3

-- name: store_states
-- The stores of each account, as the last purge left them or the running one has them now.
SELECT account, store, state, cutoff, undone_since, reason, shards FROM retentiond.chat_store
WHERE target = $1 ORDER BY account, store

-- name: store_notes
SELECT notes FROM retentiond.chat_store WHERE target = $1 AND account = $2 AND store = $3

-- name: write_store_notes
UPDATE retentiond.chat_store SET notes = $4::jsonb
WHERE target = $1 AND account = $2 AND store = $3

-- name: settle_store_notes
-- Commits with the record that tells of these rows ($4), exactly or not ($5): they are in no other one.
UPDATE retentiond.chat_store
SET notes = CASE WHEN coalesce((notes->>'gone')::bigint, 0) <= $4::bigint
                 THEN notes - 'gone' - CASE WHEN $5::boolean THEN 'at_least' ELSE '' END ELSE notes END
WHERE target = $1 AND account = $2 AND store = $3

-- name: begin_store_step
UPDATE retentiond.chat_store SET notes = $4::jsonb, newest_hold = $5
WHERE target = $1 AND account = $2 AND store = $3

-- name: holds_of_last_step
SELECT newest_hold FROM retentiond.chat_store WHERE target = $1 AND account = $2 AND store = $3

-- name: open_stores
-- The stores in which a purge has not come to its end; $2: whether somebody is at work, and may come to it yet.
SELECT account, store, state, cutoff, undone_since, reason FROM retentiond.chat_store
WHERE target = $1 AND state <> 'finished'
  AND NOT ($2 AND pass_id IN (SELECT p.pass_id FROM retentiond.pass p WHERE p.state = 'running'))
ORDER BY account, store

-- name: clock
SELECT clock_timestamp()
