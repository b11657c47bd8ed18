-- Thumbnail rows that a repair looks at again.

-- name: thumbnails_by_key
-- Thumbnail rows of these keys, as they are now.
SELECT t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS k(media_id, media_origin, width, height, resize_method)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
                         AND t.width = k.width AND t.height = k.height AND t.resize_method = k.resize_method
