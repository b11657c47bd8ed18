-- The ledger from version 4 to version 5: daily samples of targets.

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
