-- The rooms of a survey of all of them, divided by a property, for `usage`, the report and the daily samples.

-- name: total
SELECT pg_catalog.count(*) AS items, coalesce(pg_catalog.sum(r.bytes), 0)::bigint AS bytes FROM pg_temp.retentiond_room r

-- name: largest
-- The $1 largest keys of a division: the rooms, and the bytes of their events and state. $2 is the time in milliseconds, $3
-- ages in days. A text that is longer than any ID ends in its digest.
SELECT CASE WHEN pg_catalog.octet_length(k.key) <= 255 THEN k.key
            ELSE pg_catalog.left(k.key, 188) || '...' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.textsend(k.key)), 'hex')
       END COLLATE "C" AS key,
       pg_catalog.count(*) AS items, pg_catalog.sum(k.bytes)::bigint AS bytes
FROM (SELECT {division} AS key, r.bytes FROM pg_temp.retentiond_room r
      CROSS JOIN (SELECT $2::bigint AS now, $3::integer[] AS ages) a) k
GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT $1

-- name: by_server
-- The server of the creator.
r.creator

-- name: by_room
r.room_id

-- name: by_age
-- The first of the ages that is not below that of the newest event, as its server claims it: 0 for older ones.
CASE WHEN r.last_event_ms IS NOT NULL
     THEN coalesce((SELECT pg_catalog.min(n.days) FROM pg_catalog.unnest(a.ages) AS n (days)
                    WHERE r.last_event_ms >= a.now - n.days * 86400000::bigint), 0)::text END
