"""The targets: one folder for each kind of store; they never import each other."""
