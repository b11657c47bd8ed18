-- Statements by which a quota finds what goes. The tables are temporary, and go with the connection.

-- name: size_bound
-- More than all live files hold: each content counts as often as rows bear it.
SELECT least((SELECT coalesce(sum(greatest(file_size_bytes, 0)), 0) FROM mediaapi_media_repository)
           + (SELECT coalesce(sum(greatest(file_size_bytes, 0)), 0) FROM mediaapi_thumbnail), 9223372036854775807)::bigint

-- name: held_bytes
-- What lies in quarantine and will be freed; of a returned entry the live file shares the bytes, and what an
-- acceptance took in goes only when somebody purges it.
SELECT coalesce(sum(bytes), 0)::bigint FROM retentiond.entry
WHERE state IN ('intended', 'quarantined', 'purging', 'restoring')
  AND coalesce(grace_until < timestamptz '9000-01-01 UTC', true)

-- name: purged_bytes
-- What was ever purged.
SELECT coalesce(sum(purged_bytes), 0)::bigint FROM retentiond.pass

-- name: stored_bytes
-- What dendrite has stored since a moment.
SELECT least(coalesce(sum(greatest(file_size_bytes, 0)), 0), 9223372036854775807)::bigint FROM mediaapi_media_repository
WHERE creation_ts > extract(epoch FROM $1::timestamptz) * 1000

-- name: last_eviction
-- The free and purged bytes when this quota last evicted for the disk's sake.
SELECT free, purged, at FROM retentiond.quota_eviction WHERE target = $1 AND quota = $2

-- name: note_eviction
INSERT INTO retentiond.quota_eviction (target, quota, free, purged, at) VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (target, quota) DO UPDATE SET free = excluded.free, purged = excluded.purged, at = excluded.at

-- name: forget_other_evictions
-- Quotas that the configuration has no more: should one of that name come again, it begins anew.
DELETE FROM retentiond.quota_eviction WHERE target = $1 AND quota <> ALL ($2::text[])

-- name: forget_eviction
DELETE FROM retentiond.quota_eviction WHERE target = $1 AND quota = $2

-- name: drop_matched
DROP TABLE IF EXISTS pg_temp.matched, pg_temp.content, pg_temp.chosen

-- name: make_gone
-- Nothing is in it in a pass.
CREATE TEMPORARY TABLE IF NOT EXISTS gone (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin)
)

-- name: make_matched
-- Every row that the quota speaks of.
CREATE TEMPORARY TABLE matched (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    created double precision NOT NULL
)

-- name: make_content
-- Its contents, as they lie on the disk: how much they hold, and when they were last accessed.
CREATE TEMPORARY TABLE content (
    hash text COLLATE "C" PRIMARY KEY,
    bytes bigint NOT NULL,
    accessed double precision
)

-- name: make_chosen
CREATE TEMPORARY TABLE chosen (hash text COLLATE "C" PRIMARY KEY)

-- name: leave_out_matched
DELETE FROM pg_temp.matched m USING pg_temp.gone g
WHERE m.media_id = g.media_id AND m.media_origin = g.media_origin

-- name: sort_matched
CREATE INDEX matched_by_hash ON pg_temp.matched (hash)

-- name: analyze_matched
ANALYZE pg_temp.matched

-- name: matched_bytes
-- What the rows say of their size, thumbnails too: enough to tell that it fits without a look at the disk.
SELECT least(coalesce((SELECT sum(c.bytes) FROM (SELECT max(m.bytes) AS bytes FROM pg_temp.matched m GROUP BY m.hash) c), 0)
      + coalesce((SELECT sum(greatest(t.file_size_bytes, 0)) FROM pg_temp.matched m
                  JOIN mediaapi_thumbnail t ON t.media_id = m.media_id COLLATE "default"
                                           AND t.media_origin = m.media_origin COLLATE "default"
                  WHERE NOT EXISTS (SELECT FROM pg_temp.gone_thumbnail g
                                    WHERE g.media_id = m.media_id AND g.media_origin = m.media_origin AND g.width = t.width
                                      AND g.height = t.height AND g.resize_method = t.resize_method COLLATE "C")),
                 0), 9223372036854775807)::bigint

-- name: content_page
SELECT m.hash FROM pg_temp.matched m WHERE m.hash > $1 GROUP BY m.hash ORDER BY m.hash LIMIT $2

-- name: live_bytes
SELECT coalesce(sum(bytes), 0)::bigint FROM pg_temp.content

-- name: choose
-- The contents that go, in the order wanted ($2: by access), until they hold enough ($1). One goes only whole: where
-- a row that bears it stays, its file stays, and nothing would be freed.
INSERT INTO pg_temp.chosen (hash)
SELECT r.hash FROM (
    SELECT k.hash, sum(k.bytes) OVER (ORDER BY a.at, k.hash) - k.bytes AS before
    FROM (SELECT d.hash FROM pg_temp.due d GROUP BY d.hash HAVING bool_and(d.kept IS NULL)) f
    JOIN pg_temp.content k ON k.hash = f.hash
    JOIN (SELECT m.hash, max(m.created) AS created, count(*) AS rows FROM pg_temp.matched m GROUP BY m.hash) c
      ON c.hash = f.hash
    JOIN (SELECT d.hash, count(*) AS rows FROM pg_temp.due d GROUP BY d.hash) g ON g.hash = f.hash
    JOIN (SELECT m.base64hash COLLATE "C" AS hash, count(*) AS rows FROM mediaapi_media_repository m
          WHERE m.base64hash COLLATE "C" IN (SELECT hash FROM pg_temp.due)
            AND NOT EXISTS (SELECT FROM pg_temp.gone g WHERE g.media_id = m.media_id COLLATE "C"
                                                         AND g.media_origin = m.media_origin COLLATE "C")
          GROUP BY 1) b ON b.hash = f.hash AND b.rows = g.rows
    CROSS JOIN LATERAL (SELECT CASE WHEN $2 THEN greatest(k.accessed, c.created) ELSE c.created END AS at) a
    WHERE k.bytes > 0
) r
WHERE r.before < $1

-- name: keep_chosen
-- Only what was chosen is due.
DELETE FROM pg_temp.due d WHERE NOT EXISTS (SELECT FROM pg_temp.chosen c WHERE c.hash = d.hash)

-- name: count_encrypted
-- How many due rows an encrypted room may show, by pseudo-source ($1); $2 are the names of this server.
SELECT h.source, count(*) AS items
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
CROSS JOIN LATERAL ({shown}) h
WHERE d.kept IS NULL AND h.source = ANY ($1::text[])
GROUP BY h.source

-- name: chosen_bytes
SELECT coalesce(sum(k.bytes), 0)::bigint FROM pg_temp.content k JOIN pg_temp.chosen c ON c.hash = k.hash
