"""Elasticsearch and OpenSearch: the purge of chats from a search index.

A delete by query runs in the background under a task number that is reused after a restart, outlives its client, and
matches everything or nothing if a field is misspelt. So fields are checked first, each purge has a mark, only a result
with that mark is used, and the end is a count of zero that every shard has answered.
"""
