"""The database: dendrite's two tables and our part of the ledger, with the statements that several folders send.

A folder's own statements are beside its code. Rows that are read here become the model's rows and the disk's paths.
"""
