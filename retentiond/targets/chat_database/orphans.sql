-- Orphans: rows whose chat the database does not have. {names} and $names are as in purge.sql; r is a row that refers to a
-- chat directly, and o a missing chat.

-- name: validated
-- The tables whose foreign key onto the chats is validated: their rows cannot name a missing chat.
SELECT k.conrelid::bigint AS relation FROM pg_constraint k
WHERE k.contype = 'f' AND k.convalidated AND k.confrelid = $1::bigint::oid AND k.conrelid = ANY($2::bigint[]::oid[])

-- name: chats_there
-- Whether the database has any chat, of any account.
SELECT EXISTS (SELECT FROM {top} t)

-- name: drop_missing
DROP TABLE IF EXISTS {missing}

-- name: make_missing
-- The missing chats with the number of rows that name each, in this session alone.
CREATE TEMPORARY TABLE {missing} (key {orphan_type} PRIMARY KEY, items bigint NOT NULL, verdict text NOT NULL)

-- name: find_missing
INSERT INTO {missing} (key, items, verdict) {judged}

-- name: analyze_missing
ANALYZE {missing}

-- name: judged
-- Judges each missing chat by all rows that name it. Without an account or a date, or with a newer row, all are kept.
SELECT o.key AS key, sum(o.items)::bigint AS items,
       CASE WHEN {unclear} THEN 'no_account' WHEN NOT bool_or(o.dated) OR bool_or(o.undated) THEN 'undated'
            WHEN bool_or(o.newer) THEN 'newer' WHEN {held} THEN 'hold' ELSE 'due' END AS verdict
FROM ({sources}) o GROUP BY o.key HAVING {perhaps_ours}

-- name: source
-- The rows of one table by the missing chat that they name. The judging statement compares with the chats itself, so that
-- it does not find rows whose chat was just added.
SELECT r.{column}::{orphan_type} AS key, count(*) AS items, {dated}::boolean AS dated, bool_or({newer}) AS newer,
       bool_or({undated}) AS undated, bool_and({ours}) AS all_ours, bool_or({ours}) AS some_ours,
       bool_or({nameless}) AS nameless
FROM {table} r
WHERE {names_chat} {of_its_own} {among} AND NOT EXISTS (SELECT FROM {top} t WHERE t.{key} = r.{column})
GROUP BY 1

-- name: held
-- A hold on the chat, the account, a visitor or days: the visitor and the days of a missing chat are unknown.
EXISTS (SELECT FROM retentiond.hold_in_force h
        WHERE h.kind = 'account' AND h.subject = ANY($account_names::text[])
          AND (NOT h.narrowed ? 'chat' OR h.narrowed->>'chat' = {held_key}))

-- name: any_missing
SELECT EXISTS (TABLE {missing})

-- name: count_missing
SELECT count(*) FROM {missing} WHERE verdict = 'due'

-- name: count_rows
-- The rows of an entity that belong to missing chats.
SELECT o.verdict AS verdict, coalesce({file}, false) AS file, count(*) AS items
FROM {table} r {above} JOIN {missing} o ON o.key = {topmost}.{column} {own}
GROUP BY 1, 2

-- name: count_below
-- The rows of a deeper entity whose own parent is missing: their chat is unknown.
SELECT count(*) FROM {table} r
WHERE {names_chat} {of_its_own} AND NOT EXISTS (SELECT FROM {parent} p WHERE p.{parent_key} = r.{column})

-- name: count_unlinked
-- The rows of an entity that do not name a chat, or of an entity below it, judged by the dates of the former.
SELECT {unlinked_verdict} AS verdict, coalesce({file}, false) AS file, count(*) AS items
FROM {table} r {below} WHERE {names_no_chat} {of_its_own} AND {perhaps_ours}
GROUP BY 1, 2

-- name: drop_unlinked
DROP TABLE IF EXISTS {unlinked_rows}

-- name: make_unlinked
-- The places of rows that do not name a chat, in this session alone; a deletion judges each row again.
CREATE TEMPORARY TABLE {unlinked_rows} (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entity text NOT NULL,
                                 relation oid NOT NULL, place tid NOT NULL)

-- name: find_unlinked
INSERT INTO {unlinked_rows} (entity, relation, place)
SELECT $entity::text, r.tableoid, r.ctid FROM {table} r WHERE {unlinked}

-- name: unlinked_page
SELECT number, entity, relation::bigint AS relation, place FROM {unlinked_rows}
WHERE number > $after::bigint ORDER BY number LIMIT $size::integer

-- name: page
-- The next missing chats, by key.
SELECT key, items FROM {missing}
WHERE verdict = 'due' AND ($after::{orphan_type} IS NULL OR key > $after::{orphan_type})
ORDER BY key LIMIT $size::integer

-- name: page_backward
-- The same from the last key down to the key that the other direction reached.
SELECT key, items FROM {missing}
WHERE verdict = 'due' AND ($after::{orphan_type} IS NULL OR key < $after::{orphan_type}) AND key > $end::{orphan_type}
ORDER BY key DESC LIMIT $size::integer

-- name: places
-- The places of some rows of missing chats, for chats with more rows than one transaction deletes.
SELECT r.tableoid::bigint AS relation, r.ctid AS place FROM {table} r WHERE {rows} LIMIT $size::integer

-- name: delete_places
DELETE FROM {table} r WHERE r.tableoid = $relation::bigint::oid AND r.ctid = ANY($places::tid[]) AND {rows}

-- name: unlinked_keys
-- The keys of rows that do not name a chat, for the deletion of the rows below them.
SELECT r.{key} AS key FROM {table} r
WHERE r.tableoid = $relation::bigint::oid AND r.ctid = ANY($places::tid[]) AND {rows}

-- name: delete_unlinked
DELETE FROM {table} r WHERE r.tableoid = $relation::bigint::oid AND r.ctid = ANY($places::tid[]) AND {rows}
RETURNING r.{key} AS key

-- name: arrived
-- Whether one of these chats was added.
SELECT EXISTS (SELECT FROM {top} t WHERE t.{key} = ANY($keys::{orphan_type}[]))

-- name: chats_without_id
-- The chats with an ID that usually means no chat.
SELECT t.{key}::text AS chat FROM {top} t WHERE t.{key} IN ({no_chat})
