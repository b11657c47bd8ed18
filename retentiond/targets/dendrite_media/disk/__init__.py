"""The disk: dendrite's blobs and our quarantine, reached through the one descriptor of the media directory.

Files are looked at and moved here, and nothing is decided: no statement is sent, and nobody is asked who wants them.
"""
