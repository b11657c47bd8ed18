-- Thumbnail rows that dendrite added beside a pass, and the second look at them.

-- name: drop_late_thumbnail_rows
-- Thumbnail rows that dendrite added after their media row was deleted. In the same statement: no row has the key.
DELETE FROM mediaapi_thumbnail t USING retentiond.released_media r
WHERE t.media_id = r.media_id COLLATE "default" AND t.media_origin = r.media_origin COLLATE "default"
  AND ($1 OR r.released_at > statement_timestamp() - interval '1 hour')
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)

-- name: thumbnails_of_returned_keys
-- A page of thumbnail rows of released keys that have a row again, with their blob, after a key.
SELECT DISTINCT r.media_id, r.media_origin, t.width, t.height, t.resize_method COLLATE "C" AS resize_method,
       m.base64hash AS hash, s.seen_at < clock_timestamp() - interval '1 minute' AS suspect
FROM retentiond.released_media r
JOIN mediaapi_media_repository m
  ON m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
LEFT JOIN retentiond.suspect_thumbnail s
  ON s.media_id = t.media_id COLLATE "C" AND s.media_origin = t.media_origin COLLATE "C"
 AND s.width = t.width AND s.height = t.height AND s.resize_method = t.resize_method COLLATE "C"
WHERE ($1 OR r.released_at > statement_timestamp() - interval '1 hour')
  AND (r.media_id, r.media_origin, t.width, t.height, t.resize_method COLLATE "C")
      > ($3::text, $4::text, $5::integer, $6::integer, $7::text)
ORDER BY 1, 2, 3, 4, 5
LIMIT $2

-- name: suspect_thumbnails
INSERT INTO retentiond.suspect_thumbnail (media_id, media_origin, width, height, resize_method, seen_at)
SELECT s.media_id, s.media_origin, s.width, s.height, s.resize_method, clock_timestamp()
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS s(media_id, media_origin, width, height, resize_method)
ON CONFLICT DO NOTHING

-- name: drop_dead_thumbnails
-- Thumbnail rows without a file in two sweeps, a minute apart; dendrite makes them again once they are deleted.
DELETE FROM mediaapi_thumbnail t
USING unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
      AS s(media_id, media_origin, width, height, resize_method)
WHERE t.media_id = s.media_id AND t.media_origin = s.media_origin
  AND t.width = s.width AND t.height = s.height AND t.resize_method = s.resize_method

-- name: clear_suspects
-- Deletes suspects that no sweep confirmed within the day.
DELETE FROM retentiond.suspect_thumbnail WHERE seen_at < clock_timestamp() - interval '1 day'
