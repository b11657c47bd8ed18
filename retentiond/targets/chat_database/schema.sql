-- The ledger's tables for chats.

-- The purge of one account within a pass; its counts commit together with the rows that they count.
CREATE TABLE retentiond.chat_purge (
    pass_id bigint NOT NULL REFERENCES retentiond.pass,
    account text NOT NULL,
    to_date date NOT NULL,
    cutoff timestamptz NOT NULL,
    file_messages boolean NOT NULL,
    stats boolean NOT NULL,
    state text NOT NULL DEFAULT 'running',
    report jsonb,
    PRIMARY KEY (pass_id, account)
);

-- What accounts have been called, by where their chats are: the schema, and what the account's column holds.
CREATE TABLE retentiond.chat_account (
    schema_name text NOT NULL,
    column_value text NOT NULL,
    account text NOT NULL,
    PRIMARY KEY (schema_name, column_value, account)
);

-- How far the purge of an account is in a store beside the database.
CREATE TABLE retentiond.chat_store (
    target text NOT NULL,
    account text NOT NULL,
    store text NOT NULL,
    pass_id bigint NOT NULL,
    cutoff timestamptz NOT NULL,
    state text NOT NULL,
    -- Why it is not finished.
    reason text,
    undone_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    notes jsonb NOT NULL DEFAULT '{}',
    -- The newest hold that the last step reckoned with.
    newest_hold bigint NOT NULL DEFAULT 0,
    -- The state by shard and replica that the store reported last, as in the report of a purge.
    shards jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (target, account, store)
);
