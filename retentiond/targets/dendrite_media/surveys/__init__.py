"""Surveys: every row is judged, and counted, before the first is touched, and what is due may still stay.

Here are the grounds on which rows go, and the looks that can only keep them: mentions, accesses, the disk.
"""
