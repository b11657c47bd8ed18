-- The ledger from version 1 to version 2: holds with members, clocks by the ID of the boot, a version for each part.

ALTER TABLE retentiond.ledger_part ADD COLUMN version integer NOT NULL DEFAULT 1;
ALTER TABLE retentiond.ledger_part ALTER COLUMN version DROP DEFAULT;

ALTER TABLE retentiond.hold ADD COLUMN with_members boolean NOT NULL DEFAULT false;
CREATE OR REPLACE VIEW retentiond.hold_in_force AS
SELECT hold_id, kind, subject, narrowed, with_members FROM retentiond.hold
WHERE released_at IS NULL AND (until IS NULL OR until >= (clock_timestamp() AT TIME ZONE 'UTC')::date);

-- Containers on one machine share its boot: the newest note of it counts.
DELETE FROM retentiond.host_clock c
USING retentiond.host_clock newer
WHERE newer.boot_id = c.boot_id AND (newer.seen_at, newer.host) > (c.seen_at, c.host);
ALTER TABLE retentiond.host_clock DROP CONSTRAINT host_clock_pkey;
ALTER TABLE retentiond.host_clock ADD PRIMARY KEY (boot_id);
