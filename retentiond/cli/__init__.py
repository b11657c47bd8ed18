"""The command line of retentiond."""

import sys
from typing import Never

from retentiond.cli.funnel import execute
from retentiond.cli.streams import open_missing_streams
from retentiond.cli.surroundings import Surroundings

__all__ = ["execute", "main"]


def main() -> Never:
    """Do what the process was started for, and exit."""
    open_missing_streams()
    sys.exit(execute(sys.argv[1:], Surroundings()))
