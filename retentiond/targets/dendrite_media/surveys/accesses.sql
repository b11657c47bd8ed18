-- Statements over the times at which media were last accessed.

-- name: due_by_access_page
-- A page of the rows due by their creation, by policies whose time counts from the last access.
SELECT hash, due_id, media_id, media_origin, policy, size, kept FROM pg_temp.due
WHERE (hash, due_id) > ($1::text, $2::bigint) AND policy = ANY ($4::integer[])
ORDER BY hash, due_id
LIMIT $3

-- name: drop_from_due
-- Recently accessed rows are not due after all.
DELETE FROM pg_temp.due d
USING unnest($1::text[], $2::text[], $3::text[]) AS k(hash, media_id, media_origin)
WHERE d.hash = k.hash AND d.media_id = k.media_id AND d.media_origin = k.media_origin

-- name: logs
-- The access logs that were read, the last one first. `told_since`: from when on no access is missing by this log
-- alone; NULL if it has not been read for a day, and may have continued meanwhile.
SELECT log_id, path, host, head, tail, read_to, extract(epoch FROM since)::double precision AS since,
       extract(epoch FROM newest)::double precision AS newest,
       CASE WHEN read_at > clock_timestamp() - interval '1 day'
            THEN extract(epoch FROM coalesce(since, begun_at))::double precision END AS told_since
FROM retentiond.access_log
ORDER BY read_at DESC, log_id

-- name: begin_log
-- Adds an unknown log, and how far it was read.
INSERT INTO retentiond.access_log (path, host, head, tail, read_to, since, newest)
SELECT $1, $2, $3, $4, $5, t.since, t.newest
FROM (SELECT least(to_timestamp($6::double precision), clock_timestamp()) AS since,
             least(to_timestamp($7::double precision), clock_timestamp()) AS newest) t
RETURNING log_id

-- name: move_position
-- Records how far a log was read and its accesses, unless another process has read on from the same byte ($8, $9).
-- Where the record begins anew, so does the time from which on all lines were read.
UPDATE retentiond.access_log l
SET head = $2, tail = $3, read_to = $4,
    since = CASE WHEN $5::double precision IS NOT NULL THEN least(to_timestamp($5), clock_timestamp()) END,
    newest = CASE WHEN $6::double precision IS NOT NULL THEN least(to_timestamp($6), clock_timestamp()) END,
    begun_at = CASE WHEN $5 IS NULL AND l.since IS NOT NULL THEN clock_timestamp() ELSE l.begun_at END,
    host = $7, read_at = clock_timestamp()
WHERE l.log_id = $1 AND l.head = $8 AND l.read_to = $9
RETURNING log_id

-- name: look_at_log
-- Records that a log had nothing new.
UPDATE retentiond.access_log SET read_at = clock_timestamp(), host = $2 WHERE log_id = $1

-- name: forget_logs
-- Deletes logs that this one replaces, since its host reads it instead (another host of the same name reads its
-- own every minute), and logs that were not read for a month.
DELETE FROM retentiond.access_log
WHERE log_id <> $1
  AND (host = $2 AND read_at < clock_timestamp() - interval '10 minutes' OR read_at < clock_timestamp() - interval '30 days')

-- name: make_plan_access
-- A plan's own copy of the times, which ends with its connection.
CREATE TEMPORARY TABLE plan_access (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    accessed_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin)
)

-- name: fill_plan_access
INSERT INTO pg_temp.plan_access SELECT media_id, media_origin, accessed_at FROM retentiond.access

-- name: note_accesses
-- Keeps the newest time of each media item with a row; other keys may be invented by any client. No time is in the
-- future. Without an origin the item belongs to this server, under any of its names ($4).
INSERT INTO {access} AS a (media_id, media_origin, accessed_at)
SELECT m.media_id, m.media_origin, least(to_timestamp(max(n.at)), clock_timestamp())
FROM unnest($1::text[], $2::text[], $3::double precision[]) AS n(media_id, media_origin, at)
JOIN mediaapi_media_repository m
  ON m.media_id = n.media_id
 AND (m.media_origin = n.media_origin
      OR n.media_origin = '' AND (m.user_id <> '' OR lower(m.media_origin COLLATE "C") = ANY ($4::text[])))
GROUP BY m.media_id, m.media_origin
ORDER BY m.media_id COLLATE "C", m.media_origin COLLATE "C"
ON CONFLICT (media_id, media_origin) DO UPDATE SET accessed_at = greatest(a.accessed_at, excluded.accessed_at)

-- name: access_times
-- When these media were last requested, in seconds since the epoch.
SELECT a.media_id, a.media_origin, extract(epoch FROM a.accessed_at)::double precision AS at
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN {access} a ON a.media_id = k.media_id COLLATE "C" AND a.media_origin = k.media_origin COLLATE "C"

-- name: forget_accesses
-- Times of media whose rows are deleted.
DELETE FROM retentiond.access a
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = a.media_id COLLATE "default" AND m.media_origin = a.media_origin COLLATE "default")

-- name: raise_contents
-- Raises the access times of blobs by the log.
UPDATE pg_temp.content c SET accessed = greatest(c.accessed, a.at)
FROM (SELECT m.hash, max(extract(epoch FROM a.accessed_at))::double precision AS at
      FROM pg_temp.matched m JOIN {access} a ON a.media_id = m.media_id AND a.media_origin = m.media_origin
      GROUP BY m.hash) a
WHERE a.hash = c.hash
