-- The statements of a purge on the tables of a layout. {names} in braces are quoted identifiers and conditions; $names are
-- parameters, numbered when a statement is made. A tree is the chat, or another entity without a parent, with all entities
-- below it; its top rows are called chats here.

-- name: make_survey
-- The verdicts of the survey, in this session alone, and in order.
CREATE TEMPORARY TABLE {survey} (key {key_type} PRIMARY KEY, verdict text NOT NULL)

-- name: survey
-- Judges each chat that began before the date; child rows are read once, for all chats together.
INSERT INTO {survey} (key, verdict)
SELECT t.{key}, {verdict}
FROM {top} t {all_child_rows}
WHERE {of_account} AND {began}

-- name: analyze_survey
ANALYZE {survey}

-- name: twice
-- A key that more than one row has.
SELECT r.{key}::text FROM {table} r GROUP BY r.{key} HAVING r.{key} IS NOT NULL AND count(*) > 1 LIMIT 1

-- name: other_kind
-- A kind that is not a number, if no row has one of the layout's kinds, which are numbers.
SELECT r.{kind}::text FROM {table} r
WHERE r.{kind}::text ~ '[^ ]' AND r.{kind}::text !~ '^ *-?[0-9]+ *$'
  AND NOT EXISTS (SELECT FROM {table} f WHERE f.{kind}::text = ANY($kinds::text[]))
LIMIT 1

-- name: verdicts
SELECT verdict, count(*) AS items FROM {survey} GROUP BY verdict

-- name: oldest_due
-- The last date of the due chat that has been over the longest.
SELECT min({last_as_moment}) FROM {top} t JOIN {survey} d ON d.key = t.{key} WHERE d.verdict = 'due'

-- name: count_all
SELECT count(*) FROM {top} t WHERE {of_account}

-- name: overview
-- All chats that the account has, and the begin of the oldest.
SELECT count(*) AS items, min({first_as_moment}) AS oldest FROM {top} t WHERE {of_account}

-- name: page
-- The next chats to be purged, by key.
SELECT key, verdict FROM {survey}
WHERE verdict IN ('due', 'has_file_messages') AND ($after::{key_type} IS NULL OR key > $after::{key_type})
ORDER BY key LIMIT $size::integer

-- name: page_backward
-- The same from the last key on, down to one that was reached from the other side.
SELECT key, verdict FROM {survey}
WHERE verdict IN ('due', 'has_file_messages') AND ($after::{key_type} IS NULL OR key < $after::{key_type})
  AND key > $end::{key_type}
ORDER BY key DESC LIMIT $size::integer

-- name: lock
-- Locks the chats of a batch; a chat that is locked already is left for the next purge.
SELECT t.{key} AS key FROM {top} t WHERE t.{key} = ANY($keys::{key_type}[]) ORDER BY 1 FOR UPDATE SKIP LOCKED

-- name: judge
-- Judges locked chats again, by the same rules as the survey, with the number of child rows of each, and the keys of rows
-- that it may share.
SELECT t.{key} AS key, {verdict} AS verdict {counted} {sharing}
FROM {top} t {child_rows_by_chat}
WHERE t.{key} = ANY($keys::{key_type}[]) AND {of_account} AND {began}

-- name: lock_shared
-- Locks shared rows that no chat refers to any more. A foreign key, or the check at the end, finds a new chat that refers to
-- one meanwhile.
SELECT s.{shared_key} AS key FROM {shared} s
WHERE s.{shared_key} = ANY($keys::{shared_type}[]) AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})
ORDER BY 1 FOR UPDATE

-- name: delete_shared
DELETE FROM {shared} s WHERE s.{shared_key} = ANY($keys::{shared_type}[])

-- name: delete_unused
-- Both at once, if triggers and rules cannot keep a row.
DELETE FROM {shared} s
WHERE s.{shared_key} = ANY($keys::{shared_type}[]) AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})
RETURNING s.{shared_key} AS key

-- name: count_shared
-- The number of shared rows whose chats are all due.
SELECT count(*) FROM {shared} s
WHERE EXISTS (SELECT FROM {survey} d JOIN {top} t ON t.{key} = d.key
              WHERE d.verdict = 'due' AND t.{by} = s.{shared_key})
  AND NOT EXISTS (SELECT FROM {top} t LEFT JOIN {survey} d ON d.key = t.{key}
                  WHERE t.{by} = s.{shared_key} AND d.verdict IS DISTINCT FROM 'due')

-- name: count
SELECT count(*) FROM {table} r WHERE {rows}

-- name: delete
DELETE FROM {table} r WHERE {rows}

-- name: delete_returning
DELETE FROM {table} r WHERE {rows} RETURNING r.{key} AS key

-- name: left
-- Whether a row refers to a deleted parent.
SELECT EXISTS (SELECT FROM {table} r WHERE r.{column} = ANY($keys::{key_type}[]) {of_its_own})

-- name: lock_table
-- Waits for running writers, and keeps others out: without a foreign key they would not wait for this transaction.
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- name: count_left
-- The number of chats that began before the date and are left after a purge.
SELECT count(*) FROM {top} t WHERE {of_account} AND {began}

-- name: count_staying
-- The number that would be left.
SELECT count(*) FROM {survey} WHERE verdict <> 'due'

-- name: present
-- The chats among these that the database has, of any account and date.
SELECT {text} AS chat FROM {top} t WHERE t.{key} = ANY($chats::{key_type}[]) {but_due}

-- name: present_by_text
-- The same for IDs that are text: case, surrounding blanks and dashes do not matter.
SELECT DISTINCT {text} AS chat FROM {top} t
WHERE {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat)) {but_due}

-- name: but_due
-- In a dry run due chats count as deleted.
AND NOT EXISTS (SELECT FROM {survey} d WHERE d.key = t.{key} AND d.verdict = 'due')

-- name: stripped
-- The chats among these that are kept for their messages with files.
SELECT {text} AS chat FROM {survey} d JOIN {top} t ON t.{key} = d.key
WHERE d.key = ANY($chats::{key_type}[]) AND d.verdict = 'has_file_messages' {no_texts}

-- name: stripped_by_text
-- The same for IDs that are text.
SELECT DISTINCT {text} AS chat FROM {survey} d JOIN {top} t ON t.{key} = d.key
WHERE {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat)) AND d.verdict = 'has_file_messages' {no_texts}

-- name: no_texts
-- And have no other message: if one was added since, or could not be deleted, the texts in a store are kept, too.
AND NOT EXISTS (SELECT FROM {table} r WHERE r.{column} = t.{key} AND ({file}) IS NOT TRUE {of_its_own})

-- name: held_by_text
-- The chats among these that a hold on the account names, also if the database does not have them.
SELECT DISTINCT {text} AS chat FROM retentiond.hold_in_force h
WHERE h.kind = 'account' AND h.subject = ANY($account_names::text[]) AND h.narrowed->>'chat' IS NOT NULL
  AND {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat))

-- name: folded
-- A chat's ID as text, in the form that `fold` makes.
translate(btrim({id}), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ-', 'abcdefghijklmnopqrstuvwxyz')

-- name: due_chats
-- The due chats of a visitor.
SELECT key::text AS key FROM {survey} WHERE verdict = 'due'

-- name: count_of_visitor
-- The chats of a visitor in the database: those that a request covers, and those that began after it.
SELECT count(*) FILTER (WHERE {first} IS NULL OR {first} < {until}) AS covered,
       count(*) FILTER (WHERE {first} >= {until}) AS later
FROM {top} t WHERE {of_account}

-- name: count_visitor_rows
-- Rows outside of chats that name a visitor.
SELECT count(*) FROM {table} r WHERE r.{column}::text = $visitor::text AND {of_rows_account}

-- name: of_visitor
-- The same ID: as the column compares it, for its index, and as text, since a column may ignore case.
AND t.{visitor} = $visitor::text::{visitor_type} {exactly}

-- name: forget
-- Chats that were deleted with a partition need no batch.
DELETE FROM {survey} WHERE key IN (SELECT key FROM pg_temp.retentiond_members)

-- name: listing
SELECT key::text AS key, verdict FROM {survey} ORDER BY key

-- name: count_covered
-- The number of chats that a hold covers now, at any age.
SELECT count(*) FROM {top} t {all_child_rows} JOIN retentiond.hold h ON h.hold_id = $hold_id::bigint
WHERE {of_account} AND {covers}
