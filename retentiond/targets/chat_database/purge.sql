-- What a purge does to the tables of a layout. {names} in braces are quoted identifiers and conditions made of them;
-- $names are parameters, numbered when a statement is made. A tree is the chat, or an entity that hangs on none, with
-- all that hangs on it; its top rows are "chats" here.

-- name: make_survey
-- Where the survey writes its verdicts: in this session alone, and in order.
CREATE TEMPORARY TABLE {survey} (key {key_type} PRIMARY KEY, verdict text NOT NULL)

-- name: survey
-- Judges each chat that began before the date; the hanging rows are read once, as a whole.
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
-- A kind that is no number, where no row has one of the layout's, which are.
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
-- Locks the chats of a batch; one that somebody else works on is left for the next purge.
SELECT t.{key} AS key FROM {top} t WHERE t.{key} = ANY($keys::{key_type}[]) ORDER BY 1 FOR UPDATE SKIP LOCKED

-- name: judge
-- Looks at locked chats again, by the same rules as the survey; says how many rows it
-- looked at of each, and what each may share with others.
SELECT t.{key} AS key, {verdict} AS verdict {counted} {sharing}
FROM {top} t {child_rows_by_chat}
WHERE t.{key} = ANY($keys::{key_type}[]) AND {of_account} AND {began}

-- name: lock_shared
-- Locks those that no chat names any more. One that comes to name them meanwhile is met by a foreign key, or by a look
-- at the end.
SELECT s.{shared_key} AS key FROM {shared} s
WHERE s.{shared_key} = ANY($keys::{shared_type}[]) AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})
ORDER BY 1 FOR UPDATE

-- name: delete_shared
DELETE FROM {shared} s WHERE s.{shared_key} = ANY($keys::{shared_type}[])

-- name: delete_unused
-- Both at once, where no trigger and no rule can hold a row back.
DELETE FROM {shared} s
WHERE s.{shared_key} = ANY($keys::{shared_type}[]) AND NOT EXISTS (SELECT FROM {top} t WHERE t.{by} = s.{shared_key})
RETURNING s.{shared_key} AS key

-- name: count_shared
-- How many go with the last of their chats.
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
-- Whether a row belongs to a parent that is gone.
SELECT EXISTS (SELECT FROM {table} r WHERE r.{column} = ANY($keys::{key_type}[]) {of_its_own})

-- name: lock_table
-- Waits for the writers under way, and lets no other begin: without a foreign key they would not wait for us.
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- name: count_left
-- How many chats that began before the date are there after a purge.
SELECT count(*) FROM {top} t WHERE {of_account} AND {began}

-- name: count_staying
-- How many would be.
SELECT count(*) FROM {survey} WHERE verdict <> 'due'

-- name: present
-- Which of these chats the database has, whatever their account and date.
SELECT {text} AS chat FROM {top} t WHERE t.{key} = ANY($chats::{key_type}[]) {but_due}

-- name: present_by_text
-- The same for ids that are text: letters of either case, blanks around and dashes tell no chats apart.
SELECT DISTINCT {text} AS chat FROM {top} t
WHERE {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat)) {but_due}

-- name: but_due
-- In a dry run, what would go is counted as gone.
AND NOT EXISTS (SELECT FROM {survey} d WHERE d.key = t.{key} AND d.verdict = 'due')

-- name: stripped
-- Which of these chats stay for their messages with files.
SELECT {text} AS chat FROM {survey} d JOIN {top} t ON t.{key} = d.key
WHERE d.key = ANY($chats::{key_type}[]) AND d.verdict = 'has_file_messages' {no_texts}

-- name: stripped_by_text
-- The same for ids that are text.
SELECT DISTINCT {text} AS chat FROM {survey} d JOIN {top} t ON t.{key} = d.key
WHERE {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat)) AND d.verdict = 'has_file_messages' {no_texts}

-- name: no_texts
-- And have no other message: what came in since, or could not be deleted, keeps the texts of a store, too.
AND NOT EXISTS (SELECT FROM {table} r WHERE r.{column} = t.{key} AND ({file}) IS NOT TRUE {of_its_own})

-- name: held_by_text
-- Which of these chats a hold on the account names, whether or not the database has them.
SELECT DISTINCT {text} AS chat FROM retentiond.hold_in_force h
WHERE h.kind = 'account' AND h.subject = ANY($account_names::text[]) AND h.narrowed->>'chat' IS NOT NULL
  AND {text} IN (SELECT c.chat FROM unnest($chats::text[]) AS c(chat))

-- name: folded
-- A chat's id as text, in the form that `fold` makes of it, too.
translate(btrim({id}), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ-', 'abcdefghijklmnopqrstuvwxyz')

-- name: due_chats
-- The chats of a visitor that are to go.
SELECT key::text AS key FROM {survey} WHERE verdict = 'due'

-- name: count_of_visitor
-- The chats of a visitor that are there: those that a request covers, and those that began after it.
SELECT count(*) FILTER (WHERE {first} IS NULL OR {first} < {until}) AS covered,
       count(*) FILTER (WHERE {first} >= {until}) AS later
FROM {top} t WHERE {of_account}

-- name: count_visitor_rows
-- Rows outside of chats that name a visitor.
SELECT count(*) FROM {table} r WHERE r.{column}::text = $visitor::text AND {of_rows_account}

-- name: of_visitor
-- The same ID: as the column compares it, by its index, and as text, which letters of either case or a collation make alike.
AND t.{visitor} = $visitor::text::{visitor_type} {exactly}

-- name: forget
-- Chats that are gone with a partition need no batch any more.
DELETE FROM {survey} WHERE key IN (SELECT key FROM pg_temp.retentiond_members)

-- name: listing
SELECT key::text AS key, verdict FROM {survey} ORDER BY key

-- name: count_covered
-- How many chats a hold covers now, at any age.
SELECT count(*) FROM {top} t {all_child_rows} JOIN retentiond.hold h ON h.hold_id = $hold_id::bigint
WHERE {of_account} AND {covers}
