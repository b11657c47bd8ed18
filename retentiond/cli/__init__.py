"""The command line of retentiond."""

import sys
from typing import Never

from retentiond.cli.app import execute
from retentiond.cli.environment import Environment, open_missing_streams

__all__ = ["execute", "main"]


def main() -> Never:
    """Run the command of this process, and exit."""
    open_missing_streams()
    sys.exit(execute(sys.argv[1:], Environment()))
