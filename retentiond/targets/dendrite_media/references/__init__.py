"""References: media mentioned in dendrite's tables (profiles, room state, account data, messages), and by holds.

Each source is read whole into a copy, from whichever database it is in. Mentions are only read here; other folders
decide by them.
"""
