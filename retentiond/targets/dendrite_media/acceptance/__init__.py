"""Acceptance: an administrator goes on with a store of which database, disk or clock went back.

First it is shown what each of them knows; then what the ledger does not know is taken in, and the mark comes last.
"""
