"""The way back: rows, thumbnail rows and files are restored as they were, and are kept from then on.

A restore is requested by hand, or follows from a hold or a protection that is newer than the release.
"""
