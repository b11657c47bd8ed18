"""The audit: a comparison of database and disk, both ways."""
