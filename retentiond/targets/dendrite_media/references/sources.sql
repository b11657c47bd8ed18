-- References in dendrite's tables. Each source is one statement, and so one snapshot; its rows are (source,
-- media_id, media_origin), of the sources that $1 names. Only an event's content counts: dendrite keeps the previous
-- content beside it, under `unsigned`. All mentions in an unparsable text count. Texts without `mxc`, plain or
-- escaped, are never parsed. Strangers wrote these texts, so they are never converted to jsonb: it prints `1e131071`
-- with 131,072 digits, and a few thousand such numbers exceed the server's memory; as json a number stays as it is
-- written. Expressions that may raise are inside functions that catch it, and the work grows with the text, never
-- with its square.

-- name: widen_memory
-- The memory of a sort or a hash on this connection, which is given back with it: the default writes the events of any
-- large server to the disk.
SELECT set_config('work_mem', '32MB', false) WHERE pg_size_bytes(current_setting('work_mem')) < 33554432

-- name: document_function
-- A text of at most 1 MiB as JSON whose every string can be read; NULL if it is not, with a notice of the row's
-- name, if it is given. Like all these functions it is in the connection's own temporary schema: nothing is left
-- behind.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_document(given text, row_name text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql IMMUTABLE {parallel} AS $$
BEGIN
    IF octet_length(given) <= 1048576 THEN
        PERFORM given::json -> '';
        RETURN given::json;
    END IF;
    RAISE EXCEPTION 'too long';
EXCEPTION WHEN OTHERS THEN
    IF row_name IS NOT NULL THEN
        RAISE NOTICE USING MESSAGE = row_name, DETAIL = 'retentiond_unread';
    END IF;
    RETURN NULL;
END
$$

-- name: content_function
-- An event's content, in the same way; NULL also if the event has no content.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_content(given text, row_name text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql IMMUTABLE {parallel} AS $$
BEGIN
    IF octet_length(given) <= 1048576 THEN
        RETURN given::json -> 'content';
    END IF;
    RAISE EXCEPTION 'too long';
EXCEPTION WHEN OTHERS THEN
    IF row_name IS NOT NULL THEN
        RAISE NOTICE USING MESSAGE = row_name, DETAIL = 'retentiond_unread';
    END IF;
    RETURN NULL;
END
$$

-- name: state_function
-- Whether an event plainly belongs to a room's state; an unparsable one does not.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_is_state(given text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT {parallel} AS $$
BEGIN
    RETURN octet_length(given) <= 1048576 AND coalesce(json_typeof(given::json -> 'state_key') = 'string', false);
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$$

-- name: string_function
-- Every string in a JSON document that mentions `mxc`, keys of objects too, with its escapes undone. In FROM it is
-- inlined into the statement; in the list of columns it costs ten times as much. Without a backslash every quote
-- begins or ends a string, and to split at them costs a tenth of the expression.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_strings(given json) RETURNS SETOF text
LANGUAGE sql IMMUTABLE {parallel} AS $$
    SELECT s[1]::json #>> '{}'
    FROM regexp_matches(given::text, '"(?:[^"\\]|\\.)*"', 'g') AS s
    WHERE strpos(given::text, '\') > 0 AND (s[1] LIKE '%mxc%' OR s[1] LIKE '%\\u00%')
    UNION ALL
    SELECT piece
    FROM unnest(string_to_array(given::text, '"')) AS piece
    WHERE strpos(given::text, '\') = 0 AND piece LIKE '%mxc%'
$$

-- name: slice_function
-- A text in pieces of at most so many characters; each begins with the end of the one before, so that no mention
-- is cut.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_slices(given text, longest integer) RETURNS SETOF text
LANGUAGE sql IMMUTABLE {parallel} AS $$
    SELECT substr(given, place, longest)
    FROM generate_series(1, greatest(length(given) - 32768, 1), longest - 32768) AS place
    OFFSET 0
$$

-- name: window_function
-- A text in pieces of at most 1 MiB characters. The server counts the characters of a text anew for each piece, so
-- the text is cut into larger pieces first, and those into smaller: no text is read more than some thirty times.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_windows(given text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE {parallel} AS $$
    SELECT small.text
    FROM pg_temp.retentiond_slices(given, 104857600) AS large(text)
    CROSS JOIN LATERAL pg_temp.retentiond_slices(large.text, 10485760) AS medium(text)
    CROSS JOIN LATERAL pg_temp.retentiond_slices(medium.text, 1048576) AS small(text)
$$

-- name: raw_function
-- A text that does not parse as JSON, in pieces (one, mostly), with the escapes undone that could hide a mention.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_raw(given text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE {parallel} ROWS 1 AS $$
    SELECT u.undone
    FROM pg_temp.retentiond_windows(given) AS w(text)
    CROSS JOIN LATERAL (
        SELECT string_agg(CASE WHEN piece ~ '^\\u00[2-7][[:xdigit:]]' THEN chr(('x' || substr(piece, 5, 2))::bit(8)::integer) || substr(piece, 7)
                               WHEN piece LIKE '\\/%' THEN substr(piece, 2)
                               ELSE piece END, '' ORDER BY place) AS undone
        FROM regexp_split_to_table(w.text, '(?=\\)') WITH ORDINALITY AS p(piece, place)) u
$$

-- name: unquoted_function
-- A text that holds another, escaped text (JSON, a link's query, markup), with the escapes undone that could hide
-- a mention: those of the delimiters of its parts, and of other characters of an ID or an origin that links escape. A
-- run of backslashes becomes one first: an expression that allows any number would read the run again from each of
-- them.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_unquoted(given text) RETURNS text
LANGUAGE sql IMMUTABLE {parallel} AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(replace(
        regexp_replace(given, '\\+', '\\', 'g'),
        '\/', '/'),
        '%(?:25)*3a|&#0*58;|&#x0*3a;|&colon;|\\u003a', ':', 'gi'),
        '%(?:25)*2f|&#0*47;|&#x0*2f;|&sol;|\\u002f', '/', 'gi'),
        '%(?:25)*3d|&#0*61;|&#x0*3d;|&equals;|\\u003d', '=', 'gi'),
        '%(?:25)*5b|&#0*91;|&#x0*5b;|&lbrack;|&lsqb;|\\u005b', '[', 'gi'),
        '%(?:25)*5d|&#0*93;|&#x0*5d;|&rbrack;|&rsqb;|\\u005d', ']', 'gi')
$$

-- name: key_function
-- Every key that a text might mean by its `mxc://`; `plain` are the keys that it plainly means. Other servers
-- choose their media IDs freely, so an ID may end at the end of the text, at white space or punctuation, at the first
-- character that is unusual in one, or before marks of emphasis and dashes that are usual in one, too. A mention in a
-- text within the text is never plain. Events hold any text: a key that is too long for dendrite's own index, and
-- would be for ours, has no row. OFFSET 0 prevents the subquery from being computed anew for each key.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_keys(given text)
RETURNS TABLE (media_id text, media_origin text, plain boolean)
LANGUAGE sql IMMUTABLE {parallel} AS $$
    SELECT split_part(given, '/', 4), split_part(given, '/', 3), true
    WHERE octet_length(given) <= 2600 AND given ~ '^mxc://[^/\s"\\<>?#]+/[A-Za-z0-9_=-]+$'
    UNION ALL
    SELECT c.id, m.origin, bool_or(c.plain AND m.as_written)
    FROM (SELECT split_part(piece, '/', 1) AS origin, substr(piece, strpos(piece, '/') + 1) AS rest, as_written
          FROM (SELECT unnest((string_to_array(t.text, 'mxc://'))[2:]) AS piece, true AS as_written
                FROM (SELECT given AS text
                      WHERE octet_length(given) > 2600 OR given !~ '^mxc://[^/\s"\\<>?#]+/[A-Za-z0-9_=-]+$' OFFSET 0) t
                UNION ALL
                SELECT unnest((string_to_array(t.text, 'mxc://'))[2:]), false
                FROM (SELECT pg_temp.retentiond_unquoted(given) AS text WHERE given ~ '[\\%&]' OFFSET 0) t
                OFFSET 0) p
          WHERE strpos(piece, '/') > 1
          OFFSET 0) m
    CROSS JOIN LATERAL (
        VALUES (m.rest, false), (substring(m.rest FROM '^[^\s"\\<>]+'), false),
               (substring(m.rest FROM '^[^\s"\\<>?#]+'), false), (substring(m.rest FROM '^[^\s"\\<>/?#]+'), false),
               (rtrim(substring(m.rest FROM '^[A-Za-z0-9_=-]+'), '_=-'), false),
               (substring(m.rest FROM '^[A-Za-z0-9_=-]+'), m.rest ~ '^[A-Za-z0-9_=-]+($|[\s"''`<>(){},;?#\\]|\[|\])')
    ) AS c(id, plain)
    WHERE c.id <> '' AND octet_length(c.id) + octet_length(m.origin) <= 2600
    GROUP BY c.id, m.origin
$$

-- name: profiles
-- Avatars of local users; the text of one may have any length.
SELECT DISTINCT 'profile_avatars' AS source, k.media_id, k.media_origin
FROM userapi_profiles p
CROSS JOIN LATERAL pg_temp.retentiond_windows(p.avatar_url) AS w(text)
CROSS JOIN LATERAL pg_temp.retentiond_keys(w.text) k
WHERE p.avatar_url LIKE '%mxc%' AND 'profile_avatars' = ANY ($1::text[])

-- name: current_state
-- All mentions in the state of rooms: as profile_avatars the avatars of all members, local and remote, as the
-- rooms show them; as room_state room avatars, emoji, stickers, and all other references. Mentions in an unparsable
-- event are both, if only avatars are asked for, too; but no avatar if the event is no membership, and room_state has
-- it. OFFSET as a number would be computed too late for the planner, which then parses the events without workers.
SELECT DISTINCT m.source, k.media_id, k.media_origin
FROM (SELECT DISTINCT c.avatar, CASE WHEN c.rest LIKE '%mxc%' OR c.rest LIKE '%\\u00%' THEN c.rest END AS rest,
             c.raw, c.member
      FROM (SELECT CASE WHEN e.type = 'm.room.member' THEN e.content ->> 'avatar_url' END AS avatar,
                   -- A content with one `mxc`, that of the avatar, has none in its rest.
                   CASE WHEN e.type = 'm.room.member' AND json_typeof(e.content) = 'object'
                        THEN CASE WHEN e.content ->> 'avatar_url' LIKE '%mxc%' AND e.content::text NOT LIKE '%mxc%mxc%'
                                       AND e.content::text NOT LIKE '%\\u00%' THEN NULL
                                  ELSE (SELECT json_object_agg(f.key, f.value)::text FROM json_each(e.content) AS f(key, value)
                                        WHERE f.key <> 'avatar_url') END
                        ELSE e.content::text END AS rest,
                   CASE WHEN json_typeof(e.content) IS DISTINCT FROM 'object' THEN e.raw END AS raw,
                   CASE WHEN json_typeof(e.content) IS DISTINCT FROM 'object' THEN e.type = 'm.room.member' END AS member
            FROM (SELECT type, headered_event_json AS raw,
                         pg_temp.retentiond_content(headered_event_json, room_id || ' ' || event_id) AS content
                  FROM syncapi_current_room_state
                  WHERE headered_event_json LIKE '%mxc%' OR headered_event_json LIKE '%\\u00%'
                  OFFSET '0') e
            OFFSET '0') c) d
CROSS JOIN LATERAL (
    SELECT 'profile_avatars' AS source, d.avatar AS mention WHERE d.avatar IS NOT NULL
    UNION ALL
    SELECT 'room_state', s FROM pg_temp.retentiond_strings(d.rest::json) AS s WHERE d.rest IS NOT NULL
    UNION ALL
    SELECT s.source, pg_temp.retentiond_raw(d.raw) FROM unnest(ARRAY['profile_avatars', 'room_state']) AS s(source)
    WHERE d.raw IS NOT NULL AND (s.source = 'room_state' OR d.member OR 'room_state' <> ALL ($1::text[]))) m
CROSS JOIN LATERAL pg_temp.retentiond_keys(m.mention) k
WHERE m.source = ANY ($1::text[])

-- name: accounts
-- Personal emoji, stickers and all other references in account data.
SELECT DISTINCT 'account_data' AS source, k.media_id, k.media_origin
FROM (SELECT content AS raw,
             pg_temp.retentiond_document(content, localpart || ':' || server_name || ' ' || room_id || ' ' || type) AS content
      FROM userapi_account_datas
      WHERE content LIKE '%mxc%' OR content LIKE '%\\u00%'
      OFFSET 0) d
CROSS JOIN LATERAL (
    SELECT x AS mention FROM pg_temp.retentiond_strings(d.content) AS x WHERE d.content IS NOT NULL
    UNION ALL
    SELECT pg_temp.retentiond_raw(d.raw) WHERE d.content IS NULL) s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k
WHERE 'account_data' = ANY ($1::text[])

-- name: drop_servers
DROP TABLE IF EXISTS pg_temp.retentiond_server

-- name: make_servers
-- The names of this server, in lower case; empty if unknown. The table ends with the connection.
CREATE TEMPORARY TABLE retentiond_server (name text COLLATE "C" NOT NULL)

-- name: take_servers
INSERT INTO pg_temp.retentiond_server (name) SELECT unnest($1::text[])

-- name: messages
-- References in messages, with their place; events of a room's state are left out. `messages` are all;
-- `messages_in` those in rooms that are not known to be vacated; `room:KIND` and `room:ID` plain references of
-- messages in these rooms, and in no others; `sent_by:USER`, where `sent_by` is asked for, plain references of
-- messages of this local user. For a kind of rooms since_ms is when the last of these rooms became of that kind; NULL
-- if that is not known of each.
SELECT f.source, g.media_id, g.media_origin, f.since_ms
FROM (SELECT k.media_id, k.media_origin,
             bool_or(v.room_id IS NULL) AS in_joined_rooms,
             bool_and(k.plain AND m.parsed AND v.room_id IS NOT NULL) AS in_vacated_rooms,
             bool_and(k.plain AND m.parsed AND u.room_id IS NOT NULL) AS in_upgraded_rooms,
             CASE WHEN bool_and(v.since_ms IS NOT NULL) THEN max(v.since_ms) END AS vacated_ms,
             CASE WHEN bool_and(u.since_ms IS NOT NULL) THEN max(u.since_ms) END AS upgraded_ms,
             CASE WHEN bool_and(k.plain AND m.parsed) AND min(m.room_id COLLATE "C") = max(m.room_id COLLATE "C")
                  THEN min(m.room_id COLLATE "C") END AS only_room,
             array_agg(DISTINCT m.sender) FILTER (WHERE k.plain AND m.parsed AND m.sender IS NOT NULL) AS senders
      FROM (SELECT DISTINCT w.room_id, w.parsed, w.mention, w.sender
            FROM (SELECT e.room_id, coalesce(json_typeof(e.content) = 'object', false) AS parsed, s.mention, e.sender
            FROM (SELECT room_id, headered_event_json AS raw,
                         pg_temp.retentiond_content(headered_event_json) AS content,
                         CASE WHEN 'sent_by' = ANY ($1::text[])
                               AND (NOT EXISTS (SELECT FROM pg_temp.retentiond_server)
                                    OR lower(substr(sender, strpos(sender, ':') + 1) COLLATE "C")
                                       IN (SELECT name FROM pg_temp.retentiond_server))
                              THEN sender END AS sender
                  FROM syncapi_output_room_events
                  WHERE (headered_event_json LIKE '%mxc%' OR headered_event_json LIKE '%\\u00%')
                    AND NOT (headered_event_json LIKE '%"state_key"%' AND pg_temp.retentiond_is_state(headered_event_json))
                  OFFSET '0') e
            CROSS JOIN LATERAL (
                SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE json_typeof(e.content) = 'object'
                UNION ALL
                SELECT pg_temp.retentiond_raw(e.raw) WHERE json_typeof(e.content) IS DISTINCT FROM 'object') s
            OFFSET '0') w) m
      LEFT JOIN pg_temp.retentiond_room v ON v.room_id = m.room_id COLLATE "C" AND v.kind = 'no_local_members'
      LEFT JOIN pg_temp.retentiond_room u ON u.room_id = m.room_id COLLATE "C" AND u.kind = 'upgraded'
      CROSS JOIN LATERAL pg_temp.retentiond_keys(m.mention) k
      GROUP BY k.media_id, k.media_origin) g
CROSS JOIN LATERAL (
    SELECT v.source, v.since_ms
    FROM (VALUES ('messages', true, NULL::bigint), ('messages_in', g.in_joined_rooms, NULL),
                 ('room:no_local_members', g.in_vacated_rooms, g.vacated_ms),
                 ('room:upgraded', g.in_upgraded_rooms, g.upgraded_ms),
                 ('room:' || g.only_room, g.only_room IS NOT NULL, NULL)
         ) AS v(source, holds, since_ms)
    WHERE v.holds AND v.source = ANY ($1::text[])
    UNION ALL
    SELECT 'sent_by:' || u.sender, NULL FROM unnest(g.senders) AS u(sender)
) AS f
