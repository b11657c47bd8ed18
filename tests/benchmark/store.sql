-- A store of $1 media from elsewhere, of which each $2th is old enough to go; each file has $3 bytes.

-- name: media
INSERT INTO mediaapi_media_repository
SELECT 'media' || lpad(n::text, 8, '0'), 'there.test', 'image/png', $3::integer,
       (extract(epoch FROM now() - CASE WHEN n % $2::integer = 0 THEN interval '100 days' ELSE interval '1 day' END) * 1000)::bigint,
       'a.png', translate(rtrim(encode(sha256(rpad(n::text, $3::integer)::bytea), 'base64'), '='), '+/', '-_'), ''
FROM generate_series(0, $1::integer - 1) n

-- Three thumbnails for each.
-- name: thumbnails
INSERT INTO mediaapi_thumbnail
    (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height, method
FROM mediaapi_media_repository,
     (VALUES (32, 32, 'crop'), (96, 96, 'crop'), (640, 480, 'scale')) AS made (width, height, method)

-- One sequential read of both tables.
-- name: read
SELECT (SELECT sum(file_size_bytes) FROM mediaapi_media_repository WHERE base64hash <> '')
     + (SELECT sum(file_size_bytes) FROM mediaapi_thumbnail WHERE resize_method <> '')
