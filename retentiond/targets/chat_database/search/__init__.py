"""Elasticsearch and OpenSearch: what a purge of chats takes out of a search index.

A delete by query runs in the background under a task's number that comes up again after a restart, stops at nothing but
conflicts, outlives whoever asked for it, and matches everything or nothing where a field is misspelt. So fields are
asked for before, each purge bears a mark of its own, its result is believed only with that mark, and what counts in the
end is a count that every shard has answered.
"""
