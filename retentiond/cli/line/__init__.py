"""What may be typed, and what it asks for. Nothing is done here: what a line means is an object that a session calls."""
