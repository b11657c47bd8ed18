-- Where media are shown: the room and the sender of the events that refer to them.

-- name: shown
-- Each media item to which an event may refer, messages and state together, with the room and the sender of these events;
-- null where they are several.
SELECT k.media_id COLLATE "C" AS media_id, k.media_origin COLLATE "C" AS media_origin,
       CASE WHEN min(m.room_id COLLATE "C") = max(m.room_id COLLATE "C") THEN min(m.room_id COLLATE "C") END AS room,
       CASE WHEN min(m.sender COLLATE "C") = max(m.sender COLLATE "C") THEN min(m.sender COLLATE "C") END AS sender
FROM (SELECT DISTINCT e.room_id, e.sender, s.mention
      FROM (SELECT a.room_id, a.sender, a.headered_event_json AS raw,
                   pg_temp.retentiond_content(a.headered_event_json) AS content
            FROM (SELECT room_id, sender, headered_event_json FROM syncapi_output_room_events
                  UNION ALL
                  SELECT room_id, sender, headered_event_json FROM syncapi_current_room_state) a
            WHERE a.headered_event_json LIKE '%mxc%' OR a.headered_event_json LIKE '%\\u00%'
            OFFSET '0') e
      CROSS JOIN LATERAL (
          SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE json_typeof(e.content) = 'object'
          UNION ALL
          SELECT pg_temp.retentiond_raw(e.raw) WHERE json_typeof(e.content) IS DISTINCT FROM 'object') s) m
CROSS JOIN LATERAL pg_temp.retentiond_keys(m.mention) k
GROUP BY 1, 2

-- name: drop_shown
DROP TABLE IF EXISTS pg_temp.shown

-- name: make_shown
CREATE TEMPORARY TABLE shown AS {source}

-- name: make_shown_empty
CREATE TEMPORARY TABLE shown (media_id text COLLATE "C", media_origin text COLLATE "C", room text, sender text)

-- name: analyze_shown
ANALYZE pg_temp.shown

-- name: size_of_events
-- The bytes of the events that are read for it; null where there is no such table here.
SELECT pg_table_size(to_regclass('syncapi_output_room_events'))
