-- The looks of a sweep at entries in quarantine and at returned ones. Times are compared with the moment at which a
-- statement began: with `clock_timestamp()`, which changes from row to row, no index on a time can be used.

-- name: any_released
SELECT EXISTS (SELECT FROM retentiond.released_media) OR EXISTS (SELECT FROM retentiond.thumbnail_release)
