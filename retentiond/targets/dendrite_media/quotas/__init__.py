"""Quotas: the oldest or least recently accessed media are removed until the rest fits."""
