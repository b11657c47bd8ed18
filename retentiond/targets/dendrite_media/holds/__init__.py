"""Holds: items that stay whatever policies, quotas or a purge say.

They are added and released here, and read in the transaction that deletes.
"""
