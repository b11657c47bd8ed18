"""Quotas: when media take more room than they may, the oldest or least recently accessed go until they fit."""
