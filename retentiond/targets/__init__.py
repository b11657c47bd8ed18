"""The targets: one folder for each kind of store; none knows another."""
