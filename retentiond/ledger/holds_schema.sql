-- Items that users keep. A hold is never deleted: a released one has the user, the time and the reason of the release.
CREATE TABLE retentiond.hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What it is on, by the kinds that the target knows, and exactly: the URI, the user, the server, the room.
    kind text NOT NULL,
    subject text COLLATE "C" NOT NULL,
    -- What narrows it down, where the kind can be: of chats one chat or visitor, and dates.
    narrowed jsonb NOT NULL DEFAULT '{}',
    -- Of a room: the uploads of its members here, and all media of the servers of its other members, are held, too.
    with_members boolean NOT NULL DEFAULT false,
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
SELECT hold_id, kind, subject, narrowed, with_members FROM retentiond.hold
WHERE released_at IS NULL AND (until IS NULL OR until >= (clock_timestamp() AT TIME ZONE 'UTC')::date);
