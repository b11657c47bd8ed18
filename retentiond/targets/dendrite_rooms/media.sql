-- The media that only due rooms refer to: found before the rooms go, since afterwards no table shows where they were. A
-- reference that cannot be seen (in an encrypted room) names nothing. The temporary tables are on the connection to sync's
-- tables, and end with it.

-- name: make_tables
CREATE TEMPORARY TABLE retentiond_due (room_id text COLLATE "C" PRIMARY KEY);
CREATE TEMPORARY TABLE retentiond_named (
    room_id text COLLATE "C" NOT NULL, media_origin text COLLATE "C" NOT NULL, media_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin, room_id)
);
CREATE TEMPORARY TABLE retentiond_stored (
    media_origin text COLLATE "C" NOT NULL, media_id text COLLATE "C" NOT NULL, bytes bigint NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);
CREATE TEMPORARY TABLE retentiond_elsewhere (media_origin text COLLATE "C" NOT NULL, media_id text COLLATE "C" NOT NULL)

-- name: drop_tables
DROP TABLE IF EXISTS pg_temp.retentiond_due, pg_temp.retentiond_named, pg_temp.retentiond_stored, pg_temp.retentiond_elsewhere

-- name: due_rooms
SELECT r.room_id FROM pg_temp.retentiond_room r WHERE r.due IS NOT NULL

-- name: find_named
-- What the events and the state of due rooms name, by any text in them; a quarrel about what counts keeps the room.
INSERT INTO pg_temp.retentiond_named (room_id, media_origin, media_id)
SELECT DISTINCT e.room_id, m.parts[1], m.parts[2]
FROM (SELECT o.room_id, o.headered_event_json AS event FROM syncapi_output_room_events o
      JOIN pg_temp.retentiond_due d ON d.room_id = o.room_id
      UNION ALL
      SELECT s.room_id, s.headered_event_json FROM syncapi_current_room_state s
      JOIN pg_temp.retentiond_due d ON d.room_id = s.room_id) e
CROSS JOIN LATERAL pg_catalog.regexp_matches(e.event, {pattern}, 'g') AS m (parts)
WHERE pg_catalog.strpos(e.event, 'mxc:') > 0

-- name: named_keys
SELECT DISTINCT n.media_origin, n.media_id FROM pg_temp.retentiond_named n

-- name: stored
-- Those that dendrite's media tables have. Where a media target works there, those in quarantine are added, since they can
-- be restored; and those that a hold or the mark of a restore keeps for good are left out, since none of them goes.
SELECT n.media_origin, n.media_id, pg_catalog.max(m.bytes) AS bytes
FROM ({names}) n
JOIN (SELECT r.media_origin, r.media_id, r.file_size_bytes AS bytes, r.user_id FROM mediaapi_media_repository r {quarantined}) m
  ON m.media_id = n.media_id AND m.media_origin = n.media_origin
WHERE true {kept}
GROUP BY n.media_origin, n.media_id

-- name: quarantined
UNION ALL
SELECT q.media_origin, q.media_id, q.file_size_bytes, q.user_id FROM retentiond.released_media q

-- name: kept
AND NOT EXISTS (SELECT FROM retentiond.restored k WHERE k.media_id = m.media_id AND k.media_origin = m.media_origin
                AND (k.until IS NULL OR k.until > pg_catalog.clock_timestamp()))
AND NOT EXISTS (SELECT FROM retentiond.hold_in_force h
                WHERE h.kind = 'media' AND h.subject = 'mxc://' || m.media_origin || '/' || m.media_id
                   OR h.kind = 'user' AND h.subject = m.user_id
                   OR h.kind = 'origin' AND h.subject = pg_catalog.lower(m.media_origin COLLATE "C"))

-- name: media_ledger
-- Whether a media target has worked on this database.
SELECT pg_catalog.to_regclass('retentiond.released_media') IS NOT NULL

-- name: make_names
CREATE TEMPORARY TABLE retentiond_names (media_origin text COLLATE "C" NOT NULL, media_id text COLLATE "C" NOT NULL)

-- name: drop_names
DROP TABLE IF EXISTS pg_temp.retentiond_names

-- name: take_stored
INSERT INTO pg_temp.retentiond_stored (media_origin, media_id, bytes) {source}

-- name: forget_unstored
DELETE FROM pg_temp.retentiond_named n
WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_stored s WHERE s.media_id = n.media_id AND s.media_origin = n.media_origin)

-- name: has_named
SELECT EXISTS (SELECT FROM pg_temp.retentiond_named)

-- name: named_in_rooms
-- What other rooms name in their events and their state, and pending invites.
INSERT INTO pg_temp.retentiond_elsewhere (media_origin, media_id)
SELECT DISTINCT m.parts[1], m.parts[2]
FROM (SELECT o.headered_event_json AS event FROM syncapi_output_room_events o
      WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_due d WHERE d.room_id = o.room_id)
      UNION ALL
      SELECT s.headered_event_json FROM syncapi_current_room_state s
      WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_due d WHERE d.room_id = s.room_id)
      UNION ALL
      SELECT i.headered_event_json FROM syncapi_invite_events i WHERE NOT i.deleted) e
CROSS JOIN LATERAL pg_catalog.regexp_matches(e.event, {pattern}, 'g') AS m (parts)
WHERE pg_catalog.strpos(e.event, 'mxc:') > 0

-- name: named_by_users
-- What profiles and account data name.
SELECT DISTINCT m.parts[1] AS media_origin, m.parts[2] AS media_id
FROM (SELECT p.avatar_url AS text FROM userapi_profiles p UNION ALL SELECT a.content FROM userapi_account_datas a) e
CROSS JOIN LATERAL pg_catalog.regexp_matches(e.text, {pattern}, 'g') AS m (parts)
WHERE pg_catalog.strpos(e.text, 'mxc:') > 0

-- name: take_elsewhere
INSERT INTO pg_temp.retentiond_elsewhere (media_origin, media_id) {source}

-- name: forget_elsewhere
DELETE FROM pg_temp.retentiond_named n USING pg_temp.retentiond_elsewhere e
WHERE e.media_id = n.media_id AND e.media_origin = n.media_origin

-- name: by_room
SELECT n.room_id, pg_catalog.count(*) AS media FROM pg_temp.retentiond_named n GROUP BY n.room_id

-- name: of_room
-- The first media of one room.
SELECT n.media_origin, n.media_id FROM pg_temp.retentiond_named n WHERE n.room_id = $1
ORDER BY n.media_origin, n.media_id LIMIT $2

-- name: total
SELECT pg_catalog.count(*) AS items, coalesce(pg_catalog.sum(s.bytes), 0)::bigint AS bytes
FROM pg_temp.retentiond_stored s
WHERE EXISTS (SELECT FROM pg_temp.retentiond_named n WHERE n.media_id = s.media_id AND n.media_origin = s.media_origin)

-- name: note_media
UPDATE pg_temp.retentiond_room r SET media = m.media
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[])) AS m (room_id, media)
WHERE m.room_id = r.room_id

-- name: let_wait
-- Due rooms whose media are still there are due no more.
UPDATE pg_temp.retentiond_room r SET due = NULL WHERE r.due IS NOT NULL AND r.media > 0

-- name: waiting_page
-- The rooms that wait for their media, a page, after a number.
SELECT r.room_nid, r.room_id, r.version, r.creator, r.encrypted, r.events, r.bytes, r.joined, r.invites, r.left_ms,
       r.last_event_ms, r.last_event_nid, r.first_seen, r.upgraded_ms, r.successor, r.in_successor, r.aliases, r.parents,
       r.state_disagrees, r.held, r.media, r.policy
FROM pg_temp.retentiond_room r WHERE r.room_nid > $1 AND r.policy IS NOT NULL AND r.due IS NULL ORDER BY r.room_nid LIMIT $2
