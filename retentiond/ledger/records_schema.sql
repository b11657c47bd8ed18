-- The proof of disposal, apart from the rest: an append-only table.

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

-- A guard against mistakes: an owner of the tables may also drop it. Against intent there is the chain.
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
