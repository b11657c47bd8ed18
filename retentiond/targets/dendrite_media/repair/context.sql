-- The findings of a repair's audit.

-- name: drop_findings
DROP TABLE IF EXISTS pg_temp.finding

-- name: make_findings
-- The findings of the audit, in the order of their report; the table ends with the connection.
CREATE TEMPORARY TABLE finding (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    path text NOT NULL,
    size bigint NOT NULL,
    hash text,
    media_id text,
    media_origin text,
    width integer,
    height integer,
    method text
)

-- name: finding_page
-- A page of the findings of one kind.
SELECT number, kind, path, size, hash, media_id, media_origin, width, height, method
FROM pg_temp.finding WHERE number > $1 AND kind = $3 ORDER BY number LIMIT $2
