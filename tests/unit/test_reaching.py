"""What a server says becomes an error of ours, which a daemon with other targets lives through."""

from __future__ import annotations

import asyncpg
import pytest

from retentiond.adapters.postgres import translate_errors
from retentiond.model.errors import UnreachableError


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.RaiseError("evidence"),
        asyncpg.ForeignKeyViolationError("evidence"),
        asyncpg.FeatureNotSupportedError("evidence"),
    ],
)
def test_whatever_a_database_refuses_ends_the_work_on_its_target_alone(error: asyncpg.PostgresError) -> None:
    with (
        pytest.raises(
            UnreachableError, match=r"the database refused a statement: evidence .* see the server's log"
        ),
        translate_errors("the database"),
    ):
        raise error
