"""Holds: items that stay in spite of policies, quotas and purges.

They are added and released here, and read in the transaction that deletes.
"""
