-- The ledger, version 5: what every target needs. Text that is compared with a target's own is COLLATE "C",
-- so that its order does not depend on a locale.

CREATE SCHEMA IF NOT EXISTS retentiond;

CREATE TABLE retentiond.ledger_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL
);

-- The kinds of target that have tables of their own here, by their packages, and the version that these are of.
CREATE TABLE retentiond.ledger_part (
    package text PRIMARY KEY,
    version integer NOT NULL
);

-- The store of this database, and its last pass; the store ID file in the media directory has the same values.
CREATE TABLE retentiond.store (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    store_id uuid NOT NULL DEFAULT gen_random_uuid(),
    last_pass bigint NOT NULL DEFAULT 0,
    -- The last pass of the media in the ledger or on the disk, when an administrator accepted both.
    accepted_pass bigint NOT NULL DEFAULT 0,
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

-- By how much each machine's wall clock was ahead of its time since boot, to notice when it leaps; each target has its own
-- note, since an accepted clock is accepted for one target. A boot is known by its ID: the host's name is another in each
-- new container on the same machine.
CREATE TABLE retentiond.host_clock (
    target text NOT NULL,
    boot_id text NOT NULL,
    host text NOT NULL,
    wall_ahead double precision NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (target, boot_id)
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

-- The items that each target's last survey found due, without those that passes have deleted since.
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

-- The store of each target as it was once on each day, in UTC. `classes` and `largest` hold items and bytes by origin
-- class and by the largest keys; the other figures of passes are totals since the first pass.
CREATE TABLE retentiond.sample (
    target text NOT NULL,
    day date NOT NULL,
    at timestamptz NOT NULL,
    items bigint NOT NULL,
    bytes bigint NOT NULL,
    classes jsonb NOT NULL,
    largest jsonb NOT NULL,
    free_bytes bigint,
    database_bytes bigint NOT NULL,
    taken_items bigint NOT NULL,
    taken_bytes bigint NOT NULL,
    purged_items bigint NOT NULL,
    purged_bytes bigint NOT NULL,
    restored_items bigint NOT NULL,
    PRIMARY KEY (target, day)
);
