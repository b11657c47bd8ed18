"""Acceptance: an administrator continues with a store whose database, disk or clock went back.

The differences are shown first. Then the ledger learns the entries that it does not know; the store ID file is
written last.
"""
