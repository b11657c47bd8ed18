"""The configuration: its schema, its reader, and its errors, all at once."""
