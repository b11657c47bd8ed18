-- What the ledger keeps of requests to erase one visitor.

-- name: knows_erasures
SELECT to_regclass('retentiond.chat_erasure') IS NOT NULL

-- name: erasure_key
SELECT key FROM retentiond.chat_erasure_key

-- name: make_erasure_key
INSERT INTO retentiond.chat_erasure_key (key) VALUES ($1) ON CONFLICT DO NOTHING

-- name: erasure_by_name
SELECT erasure_id, visitor, even_under_floor, reason, requested_at, requested_by, finished_at FROM retentiond.chat_erasure
WHERE target = $1 AND account = $2 AND name = $3

-- name: open_erasure
-- The request of this visitor that is not done: whoever asks again goes on with it. Age decides as it did when it was made.
SELECT erasure_id, visitor, even_under_floor, reason, requested_at, requested_by, finished_at FROM retentiond.chat_erasure
WHERE target = $1 AND account = $2 AND visitor = $3 AND name IS NULL AND even_under_floor = $4 AND finished_at IS NULL
ORDER BY erasure_id LIMIT 1

-- name: add_erasure
INSERT INTO retentiond.chat_erasure (target, account, name, visitor, even_under_floor, reason, requested_at, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING erasure_id

-- name: add_erasure_pass
INSERT INTO retentiond.chat_erasure_pass (erasure_id, pass_id) VALUES ($1, $2)

-- name: add_erasure_chats
INSERT INTO retentiond.chat_erasure_chat (erasure_id, chat) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING

-- name: erasure_chats
SELECT chat FROM retentiond.chat_erasure_chat WHERE erasure_id = $1

-- name: finish_erasure
UPDATE retentiond.chat_erasure SET finished_at = clock_timestamp() WHERE erasure_id = $1

-- name: forget_erasure_chats
DELETE FROM retentiond.chat_erasure_chat WHERE erasure_id = $1

-- name: erased_rows
-- What all passes of a request took from the database: each batch committed with these counts.
SELECT coalesce(sum((p.report->>'chats')::bigint), 0)::bigint AS chats,
       (SELECT coalesce(jsonb_object_agg(name, rows), '{}') FROM (
            SELECT e.key AS name, sum(e.value::bigint) AS rows
            FROM retentiond.chat_erasure_pass o JOIN retentiond.chat_purge q USING (pass_id),
                 jsonb_each_text(q.report->'entities') e
            WHERE o.erasure_id = $1 GROUP BY e.key) each) AS entities
FROM retentiond.chat_erasure_pass w JOIN retentiond.chat_purge p USING (pass_id) WHERE w.erasure_id = $1

-- name: erased_in_stores
SELECT store, state, rows, at_least FROM retentiond.chat_erasure_store WHERE erasure_id = $1 ORDER BY store

-- name: open_erasures
-- The requests that are not done, and are not being worked on ($2: whether somebody works).
SELECT e.erasure_id, e.account, e.name, e.requested_at, s.store, s.state, s.reason
FROM retentiond.chat_erasure e LEFT JOIN retentiond.chat_erasure_store s
  ON s.erasure_id = e.erasure_id AND s.state <> 'finished'
WHERE e.target = $1 AND e.finished_at IS NULL
  AND NOT ($2 AND EXISTS (SELECT FROM retentiond.chat_erasure_pass w JOIN retentiond.pass p USING (pass_id)
                          WHERE w.erasure_id = e.erasure_id AND p.state = 'running'))
ORDER BY e.erasure_id, s.store LIMIT 100

-- The statements of ledger.sql on stores, for the stores of a request: $2 is its number in the place of the account.

-- name: begin_store
INSERT INTO retentiond.chat_erasure_store (target, erasure_id, store, cutoff, state) VALUES ($1, $2, $3, $4, 'pending')
ON CONFLICT (target, erasure_id, store) DO UPDATE SET state = excluded.state, cutoff = excluded.cutoff

-- name: store_runs
UPDATE retentiond.chat_erasure_store SET state = 'running', shards = '{}' WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: note_store
UPDATE retentiond.chat_erasure_store SET state = $4, cutoff = $5, reason = $6, shards = $7::jsonb
WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: report_shards
UPDATE retentiond.chat_erasure_store SET shards = $4::jsonb WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: store_notes
SELECT notes FROM retentiond.chat_erasure_store WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: write_store_notes
UPDATE retentiond.chat_erasure_store SET notes = $4::jsonb WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: settle_store_notes
-- Commits with the record that reports these rows ($4), exactly or not ($5): no other record has them.
UPDATE retentiond.chat_erasure_store
SET rows = rows + $4::bigint, at_least = at_least OR $5::boolean,
    notes = CASE WHEN coalesce((notes->>'gone')::bigint, 0) <= $4::bigint
                 THEN notes - 'gone' - CASE WHEN $5::boolean THEN 'at_least' ELSE '' END ELSE notes END
WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: begin_store_step
UPDATE retentiond.chat_erasure_store SET notes = $4::jsonb, newest_hold = $5
WHERE target = $1 AND erasure_id = $2 AND store = $3

-- name: holds_of_last_step
SELECT newest_hold FROM retentiond.chat_erasure_store WHERE target = $1 AND erasure_id = $2 AND store = $3
