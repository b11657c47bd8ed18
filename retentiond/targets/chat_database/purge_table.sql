-- The purges of chats in the ledger, and the names that accounts have had.

-- name: begin
INSERT INTO retentiond.chat_purge (pass_id, account, to_date, cutoff, file_messages, stats)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: note
-- Commits with the batch that it reports.
UPDATE retentiond.chat_purge SET report = $3::jsonb WHERE pass_id = $1 AND account = $2

-- name: committed
-- The report that committed with the last batch: after a COMMIT without an answer only this shows its rows.
SELECT report FROM retentiond.chat_purge WHERE pass_id = $1 AND account = $2

-- name: end
UPDATE retentiond.chat_purge SET state = $3, report = $4::jsonb WHERE pass_id = $1 AND account = $2

-- name: note_name
INSERT INTO retentiond.chat_account (schema_name, column_value, account) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: knows_names
SELECT to_regclass('retentiond.chat_account') IS NOT NULL

-- name: names
SELECT account FROM retentiond.chat_account WHERE schema_name = $1 AND column_value = $2 ORDER BY account

-- name: clock
-- The time of the server, where no ledger has it.
SELECT clock_timestamp()
