"""The commands that need no target of ours: the daemon, the demo and the example."""

from dataclasses import dataclass
from pathlib import Path

from retentiond.cli.session import Session
from retentiond.config.example import example_config
