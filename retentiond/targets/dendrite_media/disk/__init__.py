"""The disk: dendrite's blobs and our quarantine, reached through the one descriptor of the media directory.

Files are read and moved here. Nothing is decided here, and no statement is sent.
"""
