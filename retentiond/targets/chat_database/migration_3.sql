-- Version 3: the state of a store by shard and replica; requests to erase one visitor.

ALTER TABLE retentiond.chat_store ADD COLUMN shards jsonb NOT NULL DEFAULT '{}';

-- The key of the hashes of visitors in requests and records: the ledger has no IDs of visitors.
CREATE TABLE retentiond.chat_erasure_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    key bytea NOT NULL
);

-- The requests to erase one visitor of an account; `name` is that of a request in a file.
CREATE TABLE retentiond.chat_erasure (
    erasure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target text NOT NULL,
    account text NOT NULL,
    name text,
    visitor text NOT NULL,
    even_under_floor boolean NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL,
    finished_at timestamptz
);
CREATE UNIQUE INDEX chat_erasure_by_name ON retentiond.chat_erasure (target, account, name);
CREATE INDEX chat_erasure_by_visitor ON retentiond.chat_erasure (target, account, visitor);

-- The passes of a request; its deletions are those of all of their purges.
CREATE TABLE retentiond.chat_erasure_pass (
    erasure_id bigint NOT NULL REFERENCES retentiond.chat_erasure,
    pass_id bigint NOT NULL REFERENCES retentiond.pass,
    PRIMARY KEY (erasure_id, pass_id)
);

-- The chats of a request, recorded before the first is deleted: rows of these chats are deleted from the stores.
CREATE TABLE retentiond.chat_erasure_chat (
    erasure_id bigint NOT NULL REFERENCES retentiond.chat_erasure,
    chat text NOT NULL COLLATE "C",
    PRIMARY KEY (erasure_id, chat)
);

-- The progress of a request in a secondary store, and its deleted rows.
CREATE TABLE retentiond.chat_erasure_store (
    target text NOT NULL,
    erasure_id bigint NOT NULL REFERENCES retentiond.chat_erasure,
    store text NOT NULL,
    cutoff timestamptz NOT NULL,
    state text NOT NULL,
    reason text,
    shards jsonb NOT NULL DEFAULT '{}',
    rows bigint NOT NULL DEFAULT 0,
    at_least boolean NOT NULL DEFAULT false,
    notes jsonb NOT NULL DEFAULT '{}',
    newest_hold bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (target, erasure_id, store)
);
