"""Passes over a store: how a pass opens, its steps, and its end. A repair opens as a pass does."""
