"""The way into the quarantine: rows are released into the ledger, and blobs without a row are renamed away.

It works by batches and claims; every step is recorded before it is done, and checked after it.
"""
