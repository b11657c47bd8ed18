"""A demonstration of a pass: an embedded PostgreSQL and an invented store, removed when the demo ends."""
