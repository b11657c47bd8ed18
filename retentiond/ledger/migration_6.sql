-- The ledger from version 5 to version 6: a note of the clock for each target, and the pass that was accepted.

-- Notes so far are those of each target.
ALTER TABLE retentiond.host_clock ADD COLUMN target text NOT NULL DEFAULT '';
ALTER TABLE retentiond.host_clock ALTER COLUMN target DROP DEFAULT;
ALTER TABLE retentiond.host_clock DROP CONSTRAINT host_clock_pkey;
ALTER TABLE retentiond.host_clock ADD PRIMARY KEY (target, boot_id);

-- Until now the numbers of all passes were compared with the disk.
ALTER TABLE retentiond.store ADD COLUMN accepted_pass bigint NOT NULL DEFAULT 0;
UPDATE retentiond.store SET accepted_pass = last_pass;
