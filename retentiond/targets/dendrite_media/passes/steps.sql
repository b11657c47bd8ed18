-- The counts of a pass at its end.

-- name: shared_blobs
-- The number of blobs of a pass that still have rows.
SELECT count(*) FROM (SELECT DISTINCT r.base64hash FROM retentiond.released_media r WHERE r.pass_id = $1) r
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = r.base64hash)

-- name: released_uploaders
-- The uploaders of the rows that a pass released, with counts; '' stands for other servers.
SELECT user_id, count(*) AS items FROM retentiond.released_media WHERE pass_id = $1 GROUP BY user_id
