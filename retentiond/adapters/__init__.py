"""Adapters: PostgreSQL, threads for the disk, systemd and the journal, logging."""
