"""`python -m retentiond`, and the console script."""

from __future__ import annotations

from retentiond.cli import main

if __name__ == "__main__":
    main()
