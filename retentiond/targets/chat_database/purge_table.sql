-- The purges of chats in the ledger, the names of accounts, and the holds on them.

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

-- name: dated
-- Whether a hold in force on the account ($1: its names) begins on a day: then the newest date of each chat is needed.
SELECT EXISTS (SELECT FROM retentiond.hold_in_force h
               WHERE h.kind = 'account' AND h.subject = ANY($1::text[]) AND h.narrowed ? 'from')

-- name: beyond_other_stores
-- A hold that a store cannot respect by the IDs of chats, since the database may have lost these chats: a hold on the whole
-- account, on a visitor, or on days. A hold that begins on the cutoff ($2, in zone $3) or later covers earlier chats only
-- if they have a later entry; these chats are kept in the database.
SELECT hold_id, narrowed FROM retentiond.hold_in_force
WHERE kind = 'account' AND subject = ANY($1::text[]) AND NOT narrowed ? 'chat'
  AND NOT coalesce(((narrowed->>'from')::date::timestamp AT TIME ZONE $3) >= $2::timestamptz, false)
  -- For the erasure of one visitor ($4) a hold on another visitor does not matter.
  AND ($4::text IS NULL OR coalesce(narrowed->>'visitor' = $4::text, true))
ORDER BY narrowed <> '{}', hold_id LIMIT 1

-- name: newest
-- The newest hold of all. Asked with the table locked: a number is given before its hold is visible.
SELECT coalesce(max(hold_id), 0) FROM retentiond.hold

-- name: newer
-- The first hold in force on the account that is newer than another ($2).
SELECT min(hold_id) FROM retentiond.hold_in_force WHERE kind = 'account' AND subject = ANY($1::text[]) AND hold_id > $2
