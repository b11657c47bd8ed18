"""The purge of rooms: the last look, the request to dendrite, and the verification in its databases."""
