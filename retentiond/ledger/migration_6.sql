-- The ledger from version 5 to version 6: a note of the clock for each target. Notes so far are those of all: a target
-- without a note of its own goes by them.

ALTER TABLE retentiond.host_clock ADD COLUMN target text NOT NULL DEFAULT '';
ALTER TABLE retentiond.host_clock ALTER COLUMN target DROP DEFAULT;
ALTER TABLE retentiond.host_clock DROP CONSTRAINT host_clock_pkey;
ALTER TABLE retentiond.host_clock ADD PRIMARY KEY (target, boot_id);
