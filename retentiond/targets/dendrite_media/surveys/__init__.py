"""Surveys: every row is judged, and counted, before the first is removed, and a due row may still stay.

The folder has the criteria for removals, and the checks that can only keep rows: mentions, accesses, the disk.
"""
