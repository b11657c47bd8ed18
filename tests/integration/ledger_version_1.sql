-- The ledger as version 1 made it, with the tables of both kinds of target; kept to test the way from there.

-- The ledger, version 1: what every target needs. Text that is compared with a target's own is COLLATE "C",
-- so that no order of a locale, and no change of it, has a say.

CREATE SCHEMA IF NOT EXISTS retentiond;

CREATE TABLE retentiond.ledger_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL
);

-- The kinds of target that have tables of their own here, by their packages.
CREATE TABLE retentiond.ledger_part (
    package text PRIMARY KEY
);

-- Which store this database belongs to, and how far it has come; the media directory bears the same mark.
CREATE TABLE retentiond.store (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    store_id uuid NOT NULL DEFAULT gen_random_uuid(),
    last_pass bigint NOT NULL DEFAULT 0,
    last_pass_at timestamptz
);
INSERT INTO retentiond.store DEFAULT VALUES;

-- Who works on the store. The advisory lock decides; the epoch lets each transaction see that it still does.
CREATE TABLE retentiond.lease (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL DEFAULT 0,
    command text,
    host text,
    pid integer,
    since timestamptz
);
INSERT INTO retentiond.lease DEFAULT VALUES;

-- The ids under which processes claim entries.
CREATE SEQUENCE retentiond.claimant AS integer CYCLE;

-- The daemons that have been alive, each with its last sign of life.
CREATE TABLE retentiond.daemon (
    host text PRIMARY KEY,
    pid integer NOT NULL,
    beat_at timestamptz NOT NULL
);

-- What each host's wall clock was ahead of its time since boot, to notice when it leaps.
CREATE TABLE retentiond.host_clock (
    host text PRIMARY KEY,
    boot_id text NOT NULL,
    wall_ahead double precision NOT NULL,
    seen_at timestamptz NOT NULL
);

-- One row a pass; its totals stay when everything else about it is forgotten.
CREATE TABLE retentiond.pass (
    pass_id bigint PRIMARY KEY,
    target text NOT NULL,
    kind text NOT NULL,
    command text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'finished', 'finished_with_failures', 'refused', 'interrupted')),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    rules jsonb NOT NULL,
    grace interval NOT NULL,
    settle interval NOT NULL,
    report jsonb,
    purged_entries bigint NOT NULL DEFAULT 0,
    purged_bytes bigint NOT NULL DEFAULT 0,
    restored_items bigint NOT NULL DEFAULT 0
);
CREATE INDEX pass_by_target ON retentiond.pass (target, started_at DESC);

-- What each target's last survey found due, less what passes have taken since.
CREATE TABLE retentiond.backlog (
    target text PRIMARY KEY,
    at timestamptz NOT NULL,
    items bigint NOT NULL,
    bytes bigint NOT NULL,
    since timestamptz
);

-- The last refusal of each target, until a pass begins.
CREATE TABLE retentiond.refusal (
    target text PRIMARY KEY,
    at timestamptz NOT NULL,
    refused jsonb NOT NULL
);

-- The last audit of each target that came to its end.
CREATE TABLE retentiond.audit (
    target text PRIMARY KEY,
    command text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    report jsonb NOT NULL
);

-- What somebody has said must stay. A hold is never deleted: a released one says who released it, when, and why.
CREATE TABLE retentiond.hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What it is on, by the kinds that the target knows, and exactly: the URI, the user, the server, the room.
    kind text NOT NULL,
    subject text COLLATE "C" NOT NULL,
    -- What narrows it down, where the kind can be: of chats one chat or visitor, and dates.
    narrowed jsonb NOT NULL DEFAULT '{}',
    -- The last day on which it holds, in UTC; without one it holds until it is released.
    until date,
    reason text NOT NULL,
    added_at timestamptz NOT NULL,
    added_by text NOT NULL,
    released_at timestamptz,
    released_by text,
    release_reason text
);
CREATE INDEX hold_by_subject ON retentiond.hold (kind, subject) WHERE released_at IS NULL;

CREATE VIEW retentiond.hold_in_force AS
SELECT hold_id, kind, subject, narrowed FROM retentiond.hold
WHERE released_at IS NULL AND (until IS NULL OR until >= (clock_timestamp() AT TIME ZONE 'UTC')::date);

-- The proof of disposal, apart from the rest: what is written here is only ever added to.

-- One record of the chain: its content is canonical JSON, and holds the hash of the record before.
CREATE TABLE retentiond.record (
    number bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    content text NOT NULL,
    hash text NOT NULL
);
-- Hashes and random IDs hardly get smaller, and trying cost more than all else of a record.
ALTER TABLE retentiond.record ALTER COLUMN content SET STORAGE EXTERNAL;

-- Where the chain begins and ends: the last record that was pruned, and the newest. Who adds one locks it, last of all.
CREATE TABLE retentiond.record_chain (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    pruned bigint NOT NULL DEFAULT 0,
    pruned_hash text NOT NULL DEFAULT repeat('0', 64),
    head bigint NOT NULL DEFAULT 0,
    head_hash text NOT NULL DEFAULT repeat('0', 64)
);
INSERT INTO retentiond.record_chain DEFAULT VALUES;

-- Against slips: who may own the tables may also drop this. Against the rest there is the chain.
CREATE FUNCTION retentiond.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('retentiond.pruning', true) = 'yes' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'retentiond.record is only ever added to; records.keep in the configuration says how long they stay';
END
$$;
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON retentiond.record
FOR EACH STATEMENT EXECUTE FUNCTION retentiond.refuse_change();

-- The quarantine's part of the ledger. base64hash is COLLATE "C" throughout, see deletion in the README.

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
    -- When the rename was done and synced, and when a sweep after it last found nobody who wants the blob.
    renamed_at timestamptz,
    looked_at timestamptz,
    problem text
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

-- A copy of what the protections refer to. Both tables are unlogged: after a crash neither knows anything,
-- and who needs a copy makes a new one.
CREATE UNLOGGED TABLE retentiond.reference_copy (
    copy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sources text[] NOT NULL,
    begun_at timestamptz NOT NULL
);
CREATE UNLOGGED TABLE retentiond.reference (
    copy_id bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL
);
CREATE INDEX reference_by_key ON retentiond.reference (media_id, media_origin);

-- When media were last asked for, as a proxy's access log tells; only of media that have a row.
CREATE TABLE retentiond.access (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    accessed_at timestamptz NOT NULL,
    PRIMARY KEY (media_id, media_origin)
);

-- How far a host has read its access log: how the file begins, and the byte; since when no access is missing (NULL: it
-- has shown none yet), and when its newest line was written.
CREATE TABLE retentiond.access_log (
    host text NOT NULL,
    path text NOT NULL,
    head bytea NOT NULL,
    read_to bigint NOT NULL,
    since timestamptz,
    newest timestamptz,
    PRIMARY KEY (host, path)
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
    restoring jsonb,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    base64hash text COLLATE "C" NOT NULL,
    thumbnails jsonb NOT NULL
);
CREATE INDEX thumbnail_release_by_hash ON retentiond.thumbnail_release (base64hash);
CREATE INDEX thumbnail_release_by_grace ON retentiond.thumbnail_release (grace_until);
CREATE INDEX thumbnail_release_restoring ON retentiond.thumbnail_release (base64hash) WHERE restoring IS NOT NULL;

-- The ledger's tables for chats.

-- The purge of one account within a pass; its counts commit together with the rows that they count.
CREATE TABLE retentiond.chat_purge (
    pass_id bigint NOT NULL REFERENCES retentiond.pass,
    account text NOT NULL,
    to_date date NOT NULL,
    cutoff timestamptz NOT NULL,
    file_messages boolean NOT NULL,
    stats boolean NOT NULL,
    state text NOT NULL DEFAULT 'running',
    report jsonb,
    PRIMARY KEY (pass_id, account)
);

-- What accounts have been called, by where their chats are: the schema, and what the account's column holds.
CREATE TABLE retentiond.chat_account (
    schema_name text NOT NULL,
    column_value text NOT NULL,
    account text NOT NULL,
    PRIMARY KEY (schema_name, column_value, account)
);

-- How far the purge of an account is in a store beside the database.
CREATE TABLE retentiond.chat_store (
    target text NOT NULL,
    account text NOT NULL,
    store text NOT NULL,
    pass_id bigint NOT NULL,
    cutoff timestamptz NOT NULL,
    state text NOT NULL,
    -- Why it is not finished.
    reason text,
    undone_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    notes jsonb NOT NULL DEFAULT '{}',
    -- The newest hold that the last step reckoned with.
    newest_hold bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (target, account, store)
);

