-- References in pending invites of local users, before any local user is in the room.

-- name: invites
-- The avatars of the room and of the inviter, as the inviting server sent them along (`invite_room_state`), and
-- all other mentions in the event. All mentions in an unparsable event count.
SELECT DISTINCT 'invites' AS source, k.media_id, k.media_origin
FROM (SELECT headered_event_json AS raw,
             pg_temp.retentiond_document(headered_event_json, room_id || ' ' || event_id) AS event
      FROM syncapi_invite_events
      WHERE NOT deleted AND (headered_event_json LIKE '%mxc%' OR headered_event_json LIKE '%\\u00%')
      OFFSET 0) i
CROSS JOIN LATERAL (
    SELECT x AS mention FROM pg_temp.retentiond_strings(i.event) AS x WHERE i.event IS NOT NULL
    UNION ALL
    SELECT pg_temp.retentiond_raw(i.raw) WHERE i.event IS NULL) s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
WHERE 'invites' = ANY ($1::text[])
