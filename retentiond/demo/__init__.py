"""The main job to look at: an embedded PostgreSQL and a made-up store, gone again when the demo ends."""
