"""The way into the quarantine: rows are released into the ledger, and blobs that nobody bears are renamed away.

It goes by the batch and by claims; every step is recorded before it is done, and looked at again after it.
"""
