-- References in the events of rooms, messages and state together, for the rows that `delete --room` released.

-- name: events
-- `events`: possible references in any event. `only:ROOM`: plain references in an event of that room, without a
-- possible one in an event of another room.
SELECT f.source, g.media_id, g.media_origin
FROM (SELECT k.media_id, k.media_origin,
             CASE WHEN bool_or(k.plain AND m.parsed) AND min(m.room_id COLLATE "C") = max(m.room_id COLLATE "C")
                  THEN min(m.room_id COLLATE "C") END AS only_room
      FROM (SELECT DISTINCT e.room_id, coalesce(json_typeof(e.content) = 'object', false) AS parsed, s.mention
            FROM (SELECT a.room_id, a.headered_event_json AS raw,
                         pg_temp.retentiond_content(a.headered_event_json) AS content
                  FROM (SELECT room_id, headered_event_json FROM syncapi_output_room_events
                        UNION ALL
                        SELECT room_id, headered_event_json FROM syncapi_current_room_state) a
                  WHERE a.headered_event_json LIKE '%mxc%' OR a.headered_event_json LIKE '%\\u00%'
                  OFFSET 0) e
            CROSS JOIN LATERAL (
                SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE json_typeof(e.content) = 'object'
                UNION ALL
                SELECT pg_temp.retentiond_raw(e.raw) WHERE json_typeof(e.content) IS DISTINCT FROM 'object') s) m
      CROSS JOIN LATERAL pg_temp.retentiond_keys(m.mention) k
      GROUP BY k.media_id, k.media_origin) g
CROSS JOIN LATERAL (
    VALUES ('events', true), ('only:' || g.only_room, g.only_room IS NOT NULL)) AS f(source, holds)
WHERE f.holds AND f.source = ANY ($1::text[])
