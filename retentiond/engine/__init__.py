"""The engine: the order of a pass, the same for every kind of target."""
