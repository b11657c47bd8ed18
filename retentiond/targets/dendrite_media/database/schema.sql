-- The quarantine's part of the ledger. base64hash is COLLATE "C" throughout, see docs/adr/0006-own-index.md.

-- A copy of each row that was released, with its thumbnail rows, until the grace is over and it is forgotten.
CREATE TABLE retentiond.released_media (
    release_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pass_id bigint NOT NULL,
    policy text NOT NULL,
    released_at timestamptz NOT NULL,
    grace_until timestamptz NOT NULL,
    -- Somebody asked for it although it was protected: a protection does not bring it back.
    even_protected boolean NOT NULL,
    had_file boolean NOT NULL,
    -- The size of that file; null where there was none, or where version 1 released the row.
    file_bytes bigint,
    -- The conditions on references under which it was released (model/facts.py), asked again until the purge; null where
    -- no reference mattered.
    facts jsonb,
    -- The grace that was ended by hand, until `quarantine purge --cancel` gives it back.
    grace_before timestamptz,
    -- Set while the row is being brought back: {"by", "reason", "until"} for the mark, or {} for none.
    restoring jsonb,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    content_type text NOT NULL,
    file_size_bytes bigint NOT NULL,
    creation_ts bigint NOT NULL,
    upload_name text NOT NULL,
    base64hash text COLLATE "C" NOT NULL,
    user_id text NOT NULL,
    -- The thumbnail rows as objects: content_type, file_size_bytes, creation_ts, width, height, resize_method.
    thumbnails jsonb NOT NULL
);
CREATE INDEX released_media_by_hash ON retentiond.released_media (base64hash);
CREATE INDEX released_media_by_key ON retentiond.released_media (media_id, media_origin);
CREATE INDEX released_media_restoring ON retentiond.released_media (base64hash) WHERE restoring IS NOT NULL;
CREATE INDEX released_media_by_pass ON retentiond.released_media (pass_id);
-- What was released within the last hour is asked for once a minute; rows lie in the order of their release.
CREATE INDEX released_media_by_time ON retentiond.released_media USING brin (released_at);
-- And so is whose grace is over, which most of the time is nobody's.
CREATE INDEX released_media_by_grace ON retentiond.released_media (grace_until);
-- Released rows whose facts are asked again.
CREATE INDEX released_media_by_facts ON retentiond.released_media (release_id) WHERE facts IS NOT NULL;

-- One blob (or the stray thumbnails of one) in quarantine; it lies in <pass_id>/<h0h1>/<hash>.<entry_id>.
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
    -- The grace of what no released row stands for; null where the graces of rows decide.
    grace_until timestamptz,
    -- As in released_media.
    grace_before timestamptz,
    -- When the rename was done and synced, and when a sweep after it last found nobody who wants the blob.
    renamed_at timestamptz,
    looked_at timestamptz,
    -- Why the last step failed, how often in a row it did, and when a sweep tries again.
    problem text,
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz
);
CREATE INDEX entry_by_hash ON retentiond.entry (hash);
CREATE INDEX entry_by_claim ON retentiond.entry (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX entry_by_rename ON retentiond.entry (state, renamed_at);

-- Blobs that stayed although rows of theirs went: their thumbnails may have become strays.
CREATE TABLE retentiond.shared_blob (
    hash text COLLATE "C" PRIMARY KEY,
    pass_id bigint NOT NULL,
    noted_at timestamptz NOT NULL,
    settle interval NOT NULL
);

-- Thumbnail rows whose file was missing beside a live blob at one sweep; at a second they go.
CREATE TABLE retentiond.suspect_thumbnail (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin, width, height, resize_method)
);

-- A copy of each thumbnail row that a repair took because its medium or its file was not there, until its grace is
-- over: on record only, since dendrite makes thumbnails again once neither row nor file is there. The key is for logical
-- replication of all tables, with which nothing can be deleted from a table that has none.
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

-- What was brought back is kept from then on, until the date (none: for good).
CREATE TABLE retentiond.restored (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    until timestamptz,
    restored_at timestamptz NOT NULL,
    restored_by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);

-- A copy of what the protections refer to. Its tables are unlogged: after a crash none knows anything, and who needs a
-- copy makes a new one. The row of reference_turn is locked by the one that makes it.
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
    -- Of a kind of rooms: when the last of the rooms that mention it became of that kind, in milliseconds.
    since_ms bigint
);
CREATE INDEX reference_by_key ON retentiond.reference (media_id, media_origin);
-- Of the same copy, the users who are or were in an encrypted room here, and until when, in milliseconds (NULL: no end).
-- A hash index takes user IDs of any length.
CREATE UNLOGGED TABLE retentiond.reference_member (
    copy_id bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until_ms bigint
);
CREATE INDEX reference_member_by_user ON retentiond.reference_member USING hash (user_id);

-- Rooms of which only another server's clock knows since when this server has left them, or since when they are upgraded:
-- the event that made them so, and when a copy of references first found it. A room that is something else is forgotten.
CREATE TABLE retentiond.room_seen (
    room_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('no_local_members', 'upgraded')),
    event text COLLATE "C" NOT NULL,
    first_seen timestamptz NOT NULL,
    PRIMARY KEY (room_id, kind)
);

-- When media were last asked for, as a proxy's access log tells; only of media that have a row.
CREATE TABLE retentiond.access (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    accessed_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);

-- How far each access log was read: how the file begins, the byte, and what is before that byte; since when no access is
-- missing (NULL: it has shown none yet), and when its newest line was written. A log is known by its content: a
-- container has another name after each upgrade, and two hosts may each have a log of the same path. `host` is for
-- readers only. `begun_at`: from then on all of its lines were read. `read_at`: when it was last looked at.
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

-- What a hold keeps by its key: the medium that it names, or whatever its room or user was once seen to refer to. It
-- only grows: a redacted event no longer tells what it showed, and that is what holds are for.
CREATE TABLE retentiond.hold_media (
    hold_id bigint NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin, hold_id)
);
CREATE INDEX hold_media_by_hold ON retentiond.hold_media (hold_id);

-- The members of a room that is held with them: local users, whose uploads are held, and the servers of the others. It only
-- grows, too: a member who left has left pictures behind.
CREATE TABLE retentiond.hold_member (
    hold_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('user', 'origin')),
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, subject, hold_id)
);
CREATE INDEX hold_member_by_hold ON retentiond.hold_member (hold_id);

-- When what a hold's room or user refers to was last read, from one end to the other.
CREATE TABLE retentiond.hold_reading (
    hold_id bigint PRIMARY KEY,
    begun_at timestamptz NOT NULL
);

-- When a quota last evicted for the disk's sake: the free bytes then, and all that had been purged until then.
CREATE TABLE retentiond.quota_eviction (
    target text NOT NULL,
    quota text NOT NULL,
    free bigint NOT NULL,
    purged bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (target, quota)
);

-- A copy of the thumbnail rows that were released while their medium stays, until the grace is over.
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
    thumbnails jsonb NOT NULL
);
CREATE INDEX thumbnail_release_by_hash ON retentiond.thumbnail_release (base64hash);
CREATE INDEX thumbnail_release_by_grace ON retentiond.thumbnail_release (grace_until);
CREATE INDEX thumbnail_release_restoring ON retentiond.thumbnail_release (base64hash) WHERE restoring IS NOT NULL;
