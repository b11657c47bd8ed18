"""The store: one database and one media directory, which must belong together before anything is done.

Whoever works on it opens a workplace here, anew for each piece of work, and hears what is wrong and the way on.
"""
