"""The audit: does the database know the disk, and the disk the database? And what a repair mends."""
