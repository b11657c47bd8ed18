-- References to the media of a store, of which one in ten is old: every medium was sent in a message, the old ones to
-- rooms that every local user has left; half of the state events show an avatar.

-- name: messages
INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)
SELECT '$' || n, r.room, json_build_object(
           'auth_events', ARRAY['$' || repeat('a', 43), '$' || repeat('b', 43)],
           'content', json_build_object('body', 'a.png', 'msgtype', 'm.image', 'info', json_build_object('size', 256),
                                        'url', 'mxc://there.test/media' || lpad(n::text, 8, '0')),
           'hashes', json_build_object('sha256', repeat('c', 43)), 'room_id', r.room, 'type', 'm.room.message',
           'signatures', json_build_object('there.test', json_build_object('ed25519:auto', repeat('d', 86)))),
       'm.room.message', '@a:there.test', true
FROM generate_series(0, $1::integer - 1) n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 10 = 0 THEN '!left' ELSE '!joined' END || n % 1000 || ':there.test') AS r(room)

-- name: state
INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json,
    membership)
SELECT '!joined' || n % 1000 || ':there.test', '$state' || n, 'm.room.member', '@u:there.test', false,
       '@u' || n || ':there.test', json_build_object(
           'auth_events', ARRAY['$' || repeat('a', 43), '$' || repeat('b', 43), '$' || repeat('c', 43)],
           'content', json_strip_nulls(json_build_object('membership', 'join', 'displayname', 'User ' || n,
               'avatar_url', CASE WHEN n % 2 = 0 THEN 'mxc://there.test/media' || lpad((n % $2::integer / 20 * 10 + 1)::text, 8, '0') END)),
           'hashes', json_build_object('sha256', repeat('d', 43)), 'type', 'm.room.member',
           'signatures', json_build_object('there.test', json_build_object('ed25519:auto', repeat('e', 86))),
           'unsigned', json_build_object('replaces_state', '$' || repeat('f', 43))),
       'join'
FROM generate_series(0, $1::integer - 1) n

-- name: rooms
INSERT INTO roomserver_rooms (room_id, room_version)
SELECT kind || n || ':there.test', '10' FROM generate_series(0, 999) n CROSS JOIN unnest(ARRAY['!joined', '!left']) kind

-- name: members
INSERT INTO roomserver_membership (room_nid, target_nid, target_local, membership_nid)
SELECT room_nid, 1, true, CASE WHEN room_id LIKE '!joined%' THEN 3 ELSE 1 END FROM roomserver_rooms
