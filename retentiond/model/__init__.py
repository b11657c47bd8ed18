"""Pure decisions: who stays, who goes, and why. Nothing in here does I/O; time comes in as an argument."""
