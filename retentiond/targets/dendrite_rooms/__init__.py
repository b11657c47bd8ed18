"""Rooms of a dendrite without local members: purged through its admin API, after a cool-off."""
