"""A pooler in transaction mode before our sessions: each statement may meet another backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.adapters.postgres import connect
from retentiond.ledger import session

if TYPE_CHECKING:
    import pytest


class _Pooled:
    def __init__(self, backends: list[Any]) -> None:
        self._backends = backends
        self._turn = 0

    async def fetchval(self, *arguments: Any, **keywords: Any) -> Any:
        self._turn += 1
        return await self._backends[self._turn % 2].fetchval(*arguments, **keywords)

    def terminate(self) -> None:
        for backend in self._backends:
            backend.terminate()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backends[0], name)


def pool_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the pooler before every session that is opened from now on."""

    async def connect_pooled(*arguments: Any, **keywords: Any) -> Any:
        return _Pooled([await connect(*arguments, **keywords) for _ in range(2)])

    monkeypatch.setattr(session, "connect", connect_pooled)
