"""Read-only commands: the plan, the explanation of one item, the status, the report's statistics, and the check.

Nothing here changes a row, a file, a schema or an index.
"""
