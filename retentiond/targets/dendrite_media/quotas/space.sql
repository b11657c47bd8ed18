-- The free space of the disk, and the evictions for it.

-- name: size_bound
-- An upper bound of the size of all live files: each blob counts once for each of its rows.
SELECT least((SELECT coalesce(sum(greatest(file_size_bytes, 0)), 0) FROM mediaapi_media_repository)
           + (SELECT coalesce(sum(greatest(file_size_bytes, 0)), 0) FROM mediaapi_thumbnail), 9223372036854775807)::bigint

-- name: held_bytes
-- The bytes in quarantine that will be freed; the live file of a returned entry shares its bytes, and entries that
-- an acceptance took in are purged only by hand.
SELECT coalesce(sum(bytes), 0)::bigint FROM retentiond.entry
WHERE state IN ('intended', 'quarantined', 'purging', 'restoring')
  AND coalesce(grace_until < timestamptz '9000-01-01 UTC', true)

-- name: purged_bytes
-- The bytes ever purged.
SELECT coalesce(sum(purged_bytes), 0)::bigint FROM retentiond.pass

-- name: stored_bytes
-- The bytes that dendrite has stored since a moment.
SELECT least(coalesce(sum(greatest(file_size_bytes, 0)), 0), 9223372036854775807)::bigint FROM mediaapi_media_repository
WHERE creation_ts > extract(epoch FROM $1::timestamptz) * 1000

-- name: last_eviction
-- The free and purged bytes when this quota last evicted for free disk space.
SELECT free, purged, at FROM retentiond.quota_eviction WHERE target = $1 AND quota = $2

-- name: note_eviction
INSERT INTO retentiond.quota_eviction (target, quota, free, purged, at) VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (target, quota) DO UPDATE SET free = excluded.free, purged = excluded.purged, at = excluded.at

-- name: forget_other_evictions
-- Quotas that are no longer in the configuration: a later quota of the same name begins anew.
DELETE FROM retentiond.quota_eviction WHERE target = $1 AND quota <> ALL ($2::text[])

-- name: forget_eviction
DELETE FROM retentiond.quota_eviction WHERE target = $1 AND quota = $2
