"""The engine: the story of a pass, told without knowing what the target is made of."""
