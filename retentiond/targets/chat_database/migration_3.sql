-- Version 3: the state of a store by shard and replica.

ALTER TABLE retentiond.chat_store ADD COLUMN shards jsonb NOT NULL DEFAULT '{}';
