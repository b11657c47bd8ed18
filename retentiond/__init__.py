"""retentiond: old data leaves by rules, with a way back and a record, and nothing else leaves."""

__version__ = "0.1.0"
