"""What the tests of the real program ask for: a store in the midst of its life."""

from __future__ import annotations

import asyncio
from dataclasses import replace
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


@pytest.fixture(scope="session")
def made_once(
    postgres: DatabaseServer, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WornStore]:
    """The store that each test copies, and that none changes."""
    directory = tmp_path_factory.mktemp("worn")
    media_path = directory / "media"
    media_path.mkdir(mode=0o750)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        database = runner.run(postgres.clone())
        program = RealProgram(directory, database, media_path, {}, zygote)
        making = make_worn_store(postgres, program)
        yield runner.run(making.__aenter__())
        runner.run(making.__aexit__(None, None, None))
        runner.run(postgres.drop(database))


@pytest.fixture
def worn(made_once: WornStore, tmp_path: Path) -> Iterator[WornStore]:
    settings = dict(made_once.program.settings)
    program = replace(made_once.program, directory=tmp_path, settings=settings, _under_way=[])
    yield replace(made_once, program=program)
    program.clear()


@pytest.fixture
async def copy(worn: WornStore, tmp_path: Path) -> AsyncIterator[WornStore]:
    async with worn.copy(tmp_path / "copy") as lent:
        yield lent
