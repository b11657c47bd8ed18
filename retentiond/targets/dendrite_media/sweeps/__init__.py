"""Sweeps: the round, once a minute, that finishes what a crash left, gives back what is wanted, and purges what is over.

The purge is the only place from which media leave for good.
"""
