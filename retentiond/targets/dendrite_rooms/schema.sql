-- The ledger's part of rooms.

-- Rooms without a local member, invite or knock, and since when they have been seen so with the same newest event. A row
-- goes when a user returns, and begins anew with a newer event: another server may claim any time for what it sends.
CREATE TABLE retentiond.room_seen (
    room_id text COLLATE "C" PRIMARY KEY,
    room_nid bigint NOT NULL,
    last_event_nid bigint NOT NULL,
    first_seen timestamptz NOT NULL
);
