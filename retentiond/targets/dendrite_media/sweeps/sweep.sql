-- The looks of a sweep at what lies in quarantine and at what has come back. Times are held against the moment that a
-- statement began: by `clock_timestamp()`, which changes from row to row, no index over a time can be used.

-- name: any_released
SELECT EXISTS (SELECT FROM retentiond.released_media) OR EXISTS (SELECT FROM retentiond.thumbnail_release)
