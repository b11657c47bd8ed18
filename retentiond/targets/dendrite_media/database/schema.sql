-- The quarantine's part of the ledger. base64hash is COLLATE "C" throughout, see docs/adr/0006-own-index.md.

-- A copy of a thumbnail row beside its key.
CREATE TYPE retentiond.thumbnail_copy AS (
    content_type text,
    file_size_bytes bigint,
    creation_ts bigint,
    width integer,
    height integer,
    resize_method text
);

-- A copy of each released row, with its thumbnail rows, until its grace is over and the copy is deleted.
CREATE TABLE retentiond.released_media (
    release_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pass_id bigint NOT NULL,
    policy text NOT NULL,
    released_at timestamptz NOT NULL,
    grace_until timestamptz NOT NULL,
    -- Deleted by name although it was protected: a protection does not restore it.
    even_protected boolean NOT NULL,
    had_file boolean NOT NULL,
    -- The size of that file; null without a file, or if version 1 released the row.
    file_bytes bigint,
    -- The conditions on references under which it was released (model/facts.py), checked again until the purge;
    -- null if no reference mattered.
    facts jsonb,
    -- The grace that was ended by hand, until `quarantine purge --cancel` restores it.
    grace_before timestamptz,
    -- Set while the row is being restored: {"by", "reason", "until"} for the mark, or {} without one.
    restoring jsonb,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    content_type text NOT NULL,
    file_size_bytes bigint NOT NULL,
    creation_ts bigint NOT NULL,
    upload_name text NOT NULL,
    base64hash text COLLATE "C" NOT NULL,
    user_id text NOT NULL,
    thumbnails retentiond.thumbnail_copy[] NOT NULL
);
CREATE INDEX released_media_by_hash ON retentiond.released_media (base64hash);
CREATE INDEX released_media_by_key ON retentiond.released_media (media_id, media_origin);
CREATE INDEX released_media_restoring ON retentiond.released_media (base64hash) WHERE restoring IS NOT NULL;
CREATE INDEX released_media_by_pass ON retentiond.released_media (pass_id);
-- Rows released within the last hour are read once a minute; the table is in the order of release.
CREATE INDEX released_media_by_time ON retentiond.released_media USING brin (released_at);
-- Rows whose grace is over are read as often; most of the time there are no such rows.
CREATE INDEX released_media_by_grace ON retentiond.released_media (grace_until);
-- Released rows whose facts are checked again.
CREATE INDEX released_media_by_facts ON retentiond.released_media (release_id) WHERE facts IS NOT NULL;

-- One blob (or the stray thumbnails of one) in quarantine; its path is
-- <pass_id>/from-<first entry of a thousand>/<hash>.<entry_id>.
CREATE TABLE retentiond.entry (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pass_id bigint NOT NULL,
    hash text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('blob', 'thumbnails')),
    state text NOT NULL CHECK (state IN ('intended', 'quarantined', 'returned', 'purging', 'restoring', 'lost')),
    claimed_by integer,
    files integer NOT NULL,
    bytes bigint NOT NULL,
    settle interval NOT NULL,
    -- The grace of files without a released row; null if the graces of rows decide.
    grace_until timestamptz,
    -- As in released_media.
    grace_before timestamptz,
    -- When the rename was done and synced, and when a sweep after it first found no row that needs the blob.
    renamed_at timestamptz,
    looked_at timestamptz,
    -- Why the last step failed, how often in a row, and when a sweep tries again.
    problem text,
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz
);
CREATE INDEX entry_by_hash ON retentiond.entry (hash);
CREATE INDEX entry_by_claim ON retentiond.entry (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX entry_by_rename ON retentiond.entry (state, renamed_at);

-- Blobs that stayed although some of their rows were released: their thumbnails may have become strays.
CREATE TABLE retentiond.shared_blob (
    hash text COLLATE "C" PRIMARY KEY,
    pass_id bigint NOT NULL,
    noted_at timestamptz NOT NULL,
    settle interval NOT NULL
);

-- Thumbnail rows whose file was missing beside a live blob in one sweep; a second such sweep deletes them.
CREATE TABLE retentiond.suspect_thumbnail (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin, width, height, resize_method)
);

-- A copy of each thumbnail row that a repair deleted because its media row or its file was missing, until its
-- grace is over: for the record only, since dendrite makes thumbnails again once neither row nor file exists. The key
-- is for logical replication of all tables, which allows no deletion from a table without a key.
CREATE TABLE retentiond.released_thumbnail (
    release_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pass_id bigint NOT NULL,
    finding text NOT NULL,
    released_at timestamptz NOT NULL,
    grace_until timestamptz NOT NULL,
    -- As in released_media.
    grace_before timestamptz,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    content_type text NOT NULL,
    file_size_bytes bigint NOT NULL,
    creation_ts bigint NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text COLLATE "C" NOT NULL
);
CREATE INDEX released_thumbnail_by_pass ON retentiond.released_thumbnail (pass_id);

-- Restored items are kept from then on, until the date (null: for good).
CREATE TABLE retentiond.restored (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    until timestamptz,
    restored_at timestamptz NOT NULL,
    restored_by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);

-- A copy of the media to which protections refer. Its tables are unlogged: after a crash they are empty, and the
-- next reader makes a new copy. The maker of the copy locks the row of reference_turn.
CREATE TABLE retentiond.reference_turn (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO retentiond.reference_turn DEFAULT VALUES;
CREATE UNLOGGED TABLE retentiond.reference_copy (
    copy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sources text[] NOT NULL,
    begun_at timestamptz NOT NULL
);
CREATE UNLOGGED TABLE retentiond.reference (
    copy_id bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    -- For a kind of rooms: when the last of the rooms that mention it became of that kind, in milliseconds.
    since_ms bigint
);
CREATE INDEX reference_by_key ON retentiond.reference (media_id, media_origin);
-- For the same copy, the users who are or were in an encrypted room here, and until when, in milliseconds (NULL:
-- no end). A hash index takes user IDs of any length.
CREATE UNLOGGED TABLE retentiond.reference_member (
    copy_id bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until_ms bigint
);
CREATE INDEX reference_member_by_user ON retentiond.reference_member USING hash (user_id);

-- Rooms that this server has left, or that were upgraded, at a time known only by another server's clock: the
-- event, and when a copy of references first found it. Rooms in any other state are deleted from this table.
CREATE TABLE retentiond.room_seen (
    room_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('no_local_members', 'upgraded')),
    event text COLLATE "C" NOT NULL,
    first_seen timestamptz NOT NULL,
    PRIMARY KEY (room_id, kind)
);

-- When media were last requested, from a proxy's access log; only media with a row.
CREATE TABLE retentiond.access (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    accessed_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);

-- The position in each access log: the beginning of the file, the byte, and the text before that byte; since when
-- no access is missing (NULL: the log has shown no access yet), and when its newest line was written. A log is
-- identified by its content: a container has another name after each upgrade, and two hosts may each have a log of
-- the same path. `host` is for readers only. `begun_at`: from then on all of its lines were read. `read_at`: when it
-- was last read.
CREATE TABLE retentiond.access_log (
    log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path text NOT NULL,
    host text NOT NULL,
    head bytea NOT NULL,
    tail bytea NOT NULL,
    read_to bigint NOT NULL,
    since timestamptz,
    newest timestamptz,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The keys that a hold keeps: the media item that it names, or each item to which its room or user was once seen
-- to refer. Keys are only added: a redacted event no longer shows its media, and holds exist for that case.
CREATE TABLE retentiond.hold_media (
    hold_id bigint NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin, hold_id)
);
CREATE INDEX hold_media_by_hold ON retentiond.hold_media (hold_id);

-- The members of a room that is held with them: local users, whose uploads are held, and the servers of the
-- others. Members are only added, too: the pictures of a member who left are still in the room.
CREATE TABLE retentiond.hold_member (
    hold_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('user', 'origin')),
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, subject, hold_id)
);
CREATE INDEX hold_member_by_hold ON retentiond.hold_member (hold_id);

-- When the references of a hold's room or user were last read completely.
CREATE TABLE retentiond.hold_reading (
    hold_id bigint PRIMARY KEY,
    begun_at timestamptz NOT NULL
);

-- When a quota last evicted for free disk space: the free bytes then, and the bytes purged until then.
CREATE TABLE retentiond.quota_eviction (
    target text NOT NULL,
    quota text NOT NULL,
    free bigint NOT NULL,
    purged bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (target, quota)
);

-- A copy of the thumbnail rows that were released while their media item stays, until the grace is over.
CREATE TABLE retentiond.thumbnail_release (
    release_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pass_id bigint NOT NULL,
    policy text NOT NULL,
    released_at timestamptz NOT NULL,
    grace_until timestamptz NOT NULL,
    -- As in released_media.
    facts jsonb,
    grace_before timestamptz,
    restoring jsonb,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    base64hash text COLLATE "C" NOT NULL,
    thumbnails retentiond.thumbnail_copy[] NOT NULL
);
CREATE INDEX thumbnail_release_by_hash ON retentiond.thumbnail_release (base64hash);
CREATE INDEX thumbnail_release_by_grace ON retentiond.thumbnail_release (grace_until);
CREATE INDEX thumbnail_release_restoring ON retentiond.thumbnail_release (base64hash) WHERE restoring IS NOT NULL;
