"""Sweeps: once a minute, finish the steps of dead processes, return blobs to rows, and purge expired entries.

The purge is the only place from which media are deleted for good.
"""
