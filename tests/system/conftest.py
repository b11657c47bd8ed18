"""What the tests of the real program ask for: a store in the midst of its life."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.real_program import RealProgram, Zygote
from tests.support.worn_store import WornStore, make_worn_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.database import DatabaseServer


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as opened:
        yield opened


@pytest.fixture
async def worn(
    postgres: DatabaseServer, database: str, media_path: Path, tmp_path: Path, zygote: Zygote
) -> AsyncIterator[WornStore]:
    async with make_worn_store(postgres, RealProgram(tmp_path, database, media_path, {}, zygote)) as made:
        yield made


@pytest.fixture
async def copy(worn: WornStore, tmp_path: Path) -> AsyncIterator[WornStore]:
    async with worn.copy(tmp_path / "copy") as lent:
        yield lent
