"""The database: dendrite's two tables and our part of the ledger, with the statements that several rooms send.

A room's own statements lie beside its code. What is read here becomes the model's rows and the disk's paths.
"""
