"""How long a purge waits for a store beside the database, which itself never gives up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds from look to look, and for what does not get on at all."""

    between: float = 2.0
    stalled: float = 1800.0
    clock: Callable[[], float] = time.monotonic
