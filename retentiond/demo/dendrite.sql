-- The tables of dendrite that retentiond reads or changes, for the demo and the tests: the same names, types and
-- unique indexes as a real server has, and nothing else of it.

-- One row a media ID. The key is the pair; creation_ts is in milliseconds since the epoch; user_id is empty for
-- remote media. Several rows may bear one base64hash, and then they share its files.
CREATE TABLE mediaapi_media_repository (
    media_id text NOT NULL,
    media_origin text NOT NULL,
    content_type text NOT NULL,
    file_size_bytes bigint NOT NULL,
    creation_ts bigint NOT NULL,
    upload_name text NOT NULL,
    base64hash text NOT NULL,
    user_id text NOT NULL
);
CREATE UNIQUE INDEX mediaapi_media_repository_index ON mediaapi_media_repository (media_id, media_origin);

-- One row a thumbnail of a media ID, with no foreign key to it; resize_method is crop or scale.
CREATE TABLE mediaapi_thumbnail (
    media_id text NOT NULL,
    media_origin text NOT NULL,
    content_type text NOT NULL,
    file_size_bytes bigint NOT NULL,
    creation_ts bigint NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text NOT NULL
);
CREATE UNIQUE INDEX mediaapi_thumbnail_index
    ON mediaapi_thumbnail (media_id, media_origin, width, height, resize_method);

-- Local users and their avatars; remote users are not in here.
CREATE TABLE userapi_profiles (
    localpart text NOT NULL,
    server_name text NOT NULL,
    display_name text,
    avatar_url text
);
CREATE UNIQUE INDEX userapi_profiles_idx ON userapi_profiles (localpart, server_name);

-- What clients keep for their users, personal emoji and stickers too; content is JSON as text.
CREATE TABLE userapi_account_datas (
    localpart text NOT NULL,
    server_name text NOT NULL,
    room_id text,
    type text NOT NULL,
    content text NOT NULL
);
CREATE UNIQUE INDEX userapi_account_datas_idx ON userapi_account_datas (localpart, server_name, room_id, type);

-- The state of each room as it is now: avatars of rooms and members, emoji packs; the event is JSON as text.
CREATE TABLE syncapi_current_room_state (
    room_id text NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    sender text NOT NULL,
    contains_url boolean NOT NULL,
    state_key text NOT NULL,
    headered_event_json text NOT NULL,
    membership text,
    added_at bigint,
    history_visibility smallint NOT NULL DEFAULT 2,
    CONSTRAINT syncapi_room_state_unique UNIQUE (room_id, type, state_key)
);
CREATE UNIQUE INDEX syncapi_current_room_state_eventid_idx ON syncapi_current_room_state (event_id);
CREATE UNIQUE INDEX syncapi_event_id_idx
    ON syncapi_current_room_state (event_id, room_id, type, sender, contains_url);
CREATE INDEX syncapi_current_room_state_type_state_key_idx ON syncapi_current_room_state (type, state_key);

-- Every event that this server was told of, state too, in the order of its arrival; the event is JSON as text.
CREATE SEQUENCE syncapi_stream_id;
CREATE TABLE syncapi_output_room_events (
    id bigint PRIMARY KEY DEFAULT nextval('syncapi_stream_id'),
    event_id text NOT NULL CONSTRAINT syncapi_output_room_event_id_idx UNIQUE,
    room_id text NOT NULL,
    headered_event_json text NOT NULL,
    type text NOT NULL,
    sender text NOT NULL,
    contains_url boolean NOT NULL,
    add_state_ids text[],
    remove_state_ids text[],
    session_id bigint,
    transaction_id text,
    exclude_from_sync boolean DEFAULT false,
    history_visibility smallint NOT NULL DEFAULT 2
);
CREATE INDEX syncapi_output_room_events_room_id_idx ON syncapi_output_room_events (room_id);
CREATE INDEX syncapi_output_room_events_sender_idx ON syncapi_output_room_events (sender);
CREATE INDEX syncapi_output_room_events_type_idx ON syncapi_output_room_events (type);
