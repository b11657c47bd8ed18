"""The media of a dendrite server: rows in PostgreSQL, files below one directory."""
