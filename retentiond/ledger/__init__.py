"""The ledger: retentiond's own record, in the schema `retentiond` of the database it works on."""
