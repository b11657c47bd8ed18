-- The ledger's part of rooms.

-- Rooms without a local member, invite or knock, and since when they have been seen so with the same newest event. A row
-- goes when a user returns, and begins anew with a newer event: another server may claim any time for what it sends.
CREATE TABLE retentiond.room_empty (
    room_id text COLLATE "C" PRIMARY KEY,
    room_nid bigint NOT NULL,
    last_event_nid bigint NOT NULL,
    first_seen timestamptz NOT NULL
);

-- The purges of rooms, one row each, which stays. Before the request is sent its row is here; a purge that is not over is
-- open, and a room has one open purge at most, whatever hosts there are.
CREATE TABLE retentiond.room_purge (
    purge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target text NOT NULL,
    pass_id bigint,
    room_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL,
    policy text NOT NULL,
    state text NOT NULL CHECK (state IN ('sent', 'emptied', 'purged', 'rows_stay', 'refused', 'withdrawn', 'undone')),
    -- Who works on it, and as long as it is open: an ID whose lock is free is nobody's.
    claimant integer,
    sent_at timestamptz NOT NULL,
    emptied_at timestamptz,
    closed_at timestamptz,
    -- The reason of a purge that was refused or withdrawn.
    reason text,
    bytes bigint NOT NULL,
    -- The rows of the room by table, before and after.
    rows_before jsonb NOT NULL,
    rows_after jsonb,
    -- What is known of the room, for those who look for it later.
    about jsonb NOT NULL,
    -- When the room was first seen again, since another server had brought it back.
    returned_at timestamptz
);
CREATE UNIQUE INDEX room_purge_open ON retentiond.room_purge (room_id) WHERE state IN ('sent', 'emptied');
CREATE INDEX room_purge_by_room ON retentiond.room_purge (room_id, purge_id DESC);

-- The sign of trouble with dendrite that stops a target, until it is accepted.
CREATE TABLE retentiond.room_trouble (
    target text PRIMARY KEY,
    sign text NOT NULL,
    room_id text NOT NULL,
    detail text NOT NULL,
    at timestamptz NOT NULL
);
