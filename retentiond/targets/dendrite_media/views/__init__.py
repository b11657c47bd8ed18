"""What only looks: the plan, one item's story, the status, the report's picture, the check of a configuration.

Nothing here changes a row, a file, a schema or an index.
"""
