-- The copy of all references: how it is made, found, kept while it is read, and dropped.

-- name: make_plan_copy
-- A plan's copy: it ends with the connection.
CREATE TEMPORARY TABLE IF NOT EXISTS plan_reference (
    copy_id bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    since_ms bigint
)

-- name: make_plan_members
-- The users of encrypted rooms in a plan's copy.
CREATE TEMPORARY TABLE IF NOT EXISTS plan_reference_member (
    copy_id bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until_ms bigint
)

-- name: sort_plan_members
CREATE INDEX IF NOT EXISTS plan_reference_member_by_user ON pg_temp.plan_reference_member USING hash (user_id)

-- name: newest_copy
-- The newest whole copy that has these sources, if it was begun after the given time.
SELECT copy_id, begun_at FROM retentiond.reference_copy
WHERE sources @> $1::text[] AND begun_at >= $2
ORDER BY copy_id DESC LIMIT 1

-- name: hold_copy
-- Keeps a copy from being dropped until the transaction ends; no row if it is dropped already.
SELECT copy_id FROM retentiond.reference_copy WHERE copy_id = $1 FOR KEY SHARE

-- name: take_turn
-- One maker of a copy at a time: a second one waits, and then finds the copy made. It may take longer than other
-- work, and so may a source in another database, during which this transaction is idle.
SELECT set_config('lock_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)

-- name: lock_copying
-- By a row of ours: any role that may connect could hold an advisory lock.
SELECT singleton FROM retentiond.reference_turn FOR UPDATE

-- name: end_patience
-- The wait for a locked table is no longer than elsewhere.
SET LOCAL lock_timeout TO DEFAULT

-- name: begin_copy
INSERT INTO retentiond.reference_copy (sources, begun_at) VALUES ($1, clock_timestamp()) RETURNING copy_id, begun_at

-- name: make_found
-- What a source in the same database yields.
CREATE TEMPORARY TABLE retentiond_found AS {source}

-- name: drop_found
DROP TABLE IF EXISTS pg_temp.retentiond_found

-- name: copy_source
-- Adds the references of a source in the same database.
INSERT INTO {reference} (copy_id, source, media_id, media_origin)
SELECT $1::bigint, r.source, r.media_id, r.media_origin FROM pg_temp.retentiond_found r

-- name: copy_messages
-- The same for messages, which also have times.
INSERT INTO {reference} (copy_id, source, media_id, media_origin, since_ms)
SELECT $1::bigint, r.source, r.media_id, r.media_origin, r.since_ms FROM pg_temp.retentiond_found r

-- name: copy_members
-- The same for the users of encrypted rooms.
INSERT INTO {reference}_member (copy_id, user_id, until_ms)
SELECT $1::bigint, r.user_id, r.until_ms FROM pg_temp.retentiond_found r

-- name: drop_old_copies
-- Copies before the newest, except those in use at this moment: the maker of a later copy drops them.
WITH old AS (
    DELETE FROM retentiond.reference_copy WHERE copy_id IN (
        SELECT copy_id FROM retentiond.reference_copy WHERE copy_id < $1 FOR UPDATE SKIP LOCKED)
    RETURNING copy_id
), old_member AS (
    DELETE FROM retentiond.reference_member WHERE copy_id IN (SELECT copy_id FROM old)
)
DELETE FROM retentiond.reference WHERE copy_id IN (SELECT copy_id FROM old)

-- name: analyze_copy
ANALYZE {reference}, {reference}_member
