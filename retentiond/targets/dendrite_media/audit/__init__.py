"""The audit: whether the database knows the disk, and the disk the database."""
