"""Passes over a store: the steps that the engine asks for, what comes before the first, and what is left to do.

A repair begins as a pass does, since it takes rows as well.
"""
