-- The filter of blobs.

-- name: due_bits
-- The places of the due blobs in a bitmap of which $1 is the mask, at most $2 of them, as one text of bytes.
SELECT string_agg(int4send(b.bit), ''::bytea) AS bits
FROM (SELECT DISTINCT (hashtextextended(d.hash, 0) & $1::bigint)::integer AS bit FROM pg_temp.due d LIMIT $2) b

-- name: in_bitmap
get_bit({bitmap}, (hashtextextended(m.base64hash COLLATE "C", 0) & {mask})::integer) = 1
