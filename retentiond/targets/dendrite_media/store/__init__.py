"""The store: one database and one media directory, which must belong together before any work.

Each piece of work opens a session here, and gets an error with the next step if the two do not fit.
"""
