-- The quarantine's part of the ledger from version 1 to version 2.

-- Rows released before have no facts: no reference is checked again for them.
ALTER TABLE retentiond.released_media
    ADD COLUMN file_bytes bigint,
    ADD COLUMN facts jsonb,
    ADD COLUMN grace_before timestamptz;
CREATE INDEX released_media_by_facts ON retentiond.released_media (release_id) WHERE facts IS NOT NULL;
ALTER TABLE retentiond.thumbnail_release ADD COLUMN facts jsonb, ADD COLUMN grace_before timestamptz;
ALTER TABLE retentiond.released_thumbnail ADD COLUMN grace_before timestamptz;
ALTER TABLE retentiond.entry
    ADD COLUMN grace_before timestamptz,
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_at timestamptz;

-- The copies of references are made again.
TRUNCATE retentiond.reference, retentiond.reference_copy;
ALTER TABLE retentiond.reference ADD COLUMN since_ms bigint;
CREATE TABLE retentiond.reference_turn (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
INSERT INTO retentiond.reference_turn DEFAULT VALUES;
CREATE UNLOGGED TABLE retentiond.reference_member (
    copy_id bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until_ms bigint
);
CREATE INDEX reference_member_by_user ON retentiond.reference_member USING hash (user_id);
CREATE TABLE retentiond.room_seen (
    room_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('no_local_members', 'upgraded')),
    event text COLLATE "C" NOT NULL,
    first_seen timestamptz NOT NULL,
    PRIMARY KEY (room_id, kind)
);

-- Positions in a log of version 1 are not tied to its content, so each log is read from the beginning; known
-- accesses stay.
DROP TABLE retentiond.access_log;
CREATE TABLE retentiond.access_log (
    log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    path text NOT NULL,
    head bytea NOT NULL,
    tail bytea NOT NULL,
    read_to bigint NOT NULL,
    since timestamptz,
    newest timestamptz,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    read_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE retentiond.hold_member (
    hold_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('user', 'origin')),
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, subject, hold_id)
);
CREATE INDEX hold_member_by_hold ON retentiond.hold_member (hold_id);
