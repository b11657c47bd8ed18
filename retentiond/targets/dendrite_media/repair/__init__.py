"""The repair: what is safe to mend of what an audit found, through the quarantine."""
