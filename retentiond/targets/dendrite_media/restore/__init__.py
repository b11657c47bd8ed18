"""The way back: rows, thumbnail rows and files come back as they were, and are kept from then on.

Somebody asks for it, or a hold or a protection does that came after the release.
"""
