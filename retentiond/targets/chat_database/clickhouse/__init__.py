"""ClickHouse: what a purge of chats takes out of a table of statistics there.

`ALTER TABLE … DELETE` is only written down by the server, has no id, tries again for ever, and outlives whoever asked
for it. So each carries a mark in its condition, is looked for before it is asked for again, and is followed to its end.
"""
