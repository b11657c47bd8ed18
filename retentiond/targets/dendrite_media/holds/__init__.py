"""Holds: what stays because somebody said so, whatever policies, quotas or a purge say.

They are put on and released here, and asked in the transaction that deletes.
"""
