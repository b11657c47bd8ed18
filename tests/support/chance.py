"""How much a run leaves to chance: $RETENTIOND_TEST_NIGHTLY asks for the long run, $RETENTIOND_TEST_SEED repeats one."""

from __future__ import annotations

import os
import random
from typing import Final

NIGHTLY: Final = bool(os.environ.get("RETENTIOND_TEST_NIGHTLY"))
SEED: Final = int(os.environ.get("RETENTIOND_TEST_SEED") or random.randrange(1_000_000_000))
AGAIN: Final = f"run it again with RETENTIOND_TEST_SEED={SEED}"
