-- The requests to erase one visitor, in the ledger.

-- name: has_requests
SELECT to_regclass('retentiond.chat_erasure') IS NOT NULL

-- name: key
SELECT key FROM retentiond.chat_erasure_key

-- name: make_key
INSERT INTO retentiond.chat_erasure_key (key) VALUES ($1) ON CONFLICT DO NOTHING

-- name: by_name
SELECT erasure_id, visitor, even_under_floor, reason, requested_at, requested_by, finished_at FROM retentiond.chat_erasure
WHERE target = $1 AND account = $2 AND name = $3

-- name: of_visitor
-- The unfinished request of this visitor, which the same command continues. The floor applies as it did when it was made.
SELECT erasure_id, visitor, even_under_floor, reason, requested_at, requested_by, finished_at FROM retentiond.chat_erasure
WHERE target = $1 AND account = $2 AND visitor = $3 AND name IS NULL AND even_under_floor = $4 AND finished_at IS NULL
ORDER BY erasure_id LIMIT 1

-- name: add
INSERT INTO retentiond.chat_erasure (target, account, name, visitor, even_under_floor, reason, requested_at, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING erasure_id

-- name: add_pass
INSERT INTO retentiond.chat_erasure_pass (erasure_id, pass_id) VALUES ($1, $2)

-- name: add_chats
INSERT INTO retentiond.chat_erasure_chat (erasure_id, chat) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING

-- name: chats
SELECT chat FROM retentiond.chat_erasure_chat WHERE erasure_id = $1

-- name: finish
UPDATE retentiond.chat_erasure SET finished_at = clock_timestamp() WHERE erasure_id = $1

-- name: forget_chats
DELETE FROM retentiond.chat_erasure_chat WHERE erasure_id = $1

-- name: deleted_rows
-- The rows that all passes of a request deleted from the database: each batch committed with these counts.
SELECT coalesce(sum((p.report->>'chats')::bigint), 0)::bigint AS chats,
       (SELECT coalesce(jsonb_object_agg(name, rows), '{}') FROM (
            SELECT e.key AS name, sum(e.value::bigint) AS rows
            FROM retentiond.chat_erasure_pass o JOIN retentiond.chat_purge q USING (pass_id),
                 jsonb_each_text(q.report->'entities') e
            WHERE o.erasure_id = $1 GROUP BY e.key) each) AS entities
FROM retentiond.chat_erasure_pass w JOIN retentiond.chat_purge p USING (pass_id) WHERE w.erasure_id = $1

-- name: deleted_in_stores
SELECT store, state, rows, at_least FROM retentiond.chat_erasure_store WHERE erasure_id = $1 ORDER BY store

-- name: unfinished
-- The unfinished requests; those of a running pass are left out if a pass is running ($2).
SELECT e.erasure_id, e.account, e.name, e.requested_at, s.store, s.state, s.reason
FROM retentiond.chat_erasure e LEFT JOIN retentiond.chat_erasure_store s
  ON s.erasure_id = e.erasure_id AND s.state <> 'finished'
WHERE e.target = $1 AND e.finished_at IS NULL
  AND NOT ($2 AND EXISTS (SELECT FROM retentiond.chat_erasure_pass w JOIN retentiond.pass p USING (pass_id)
                          WHERE w.erasure_id = e.erasure_id AND p.state = 'running'))
ORDER BY e.erasure_id, s.store LIMIT 100
