-- The quarantine's part of the ledger from version 4 to version 5: the copies of thumbnail rows, which were JSON, become
-- an array of rows: half of a release's processor time made that JSON.

CREATE TYPE retentiond.thumbnail_copy AS (
    content_type text,
    file_size_bytes bigint,
    creation_ts bigint,
    width integer,
    height integer,
    resize_method text
);
CREATE FUNCTION retentiond.thumbnail_copies(stored jsonb) RETURNS retentiond.thumbnail_copy[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(t), '{}') FROM jsonb_populate_recordset(NULL::retentiond.thumbnail_copy, stored) t
$$;
ALTER TABLE retentiond.released_media
    ALTER COLUMN thumbnails TYPE retentiond.thumbnail_copy[] USING retentiond.thumbnail_copies(thumbnails);
ALTER TABLE retentiond.thumbnail_release
    ALTER COLUMN thumbnails TYPE retentiond.thumbnail_copy[] USING retentiond.thumbnail_copies(thumbnails);
DROP FUNCTION retentiond.thumbnail_copies(jsonb);
