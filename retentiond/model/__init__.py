"""Pure decisions: items to keep, items to delete, and the reasons. No I/O; time is an argument."""
