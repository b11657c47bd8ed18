"""The repair of an audit's findings, as far as it is safe, through the quarantine."""
