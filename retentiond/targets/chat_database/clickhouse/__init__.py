"""ClickHouse: the purge of chats from a table of statistics.

`ALTER TABLE … DELETE` is only recorded by the server, has no ID, is retried for ever, and outlives its client. So each
has a mark in its condition, is searched for before it is sent again, and is followed to its end.
"""
