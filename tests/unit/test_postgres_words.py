"""What a database that cannot be reached is told as."""

from __future__ import annotations

import pytest

from retentiond.adapters.postgres import translate_errors
from retentiond.model.errors import UnreachableError


def test_a_home_that_may_not_be_entered_is_told_as_such_and_not_as_a_database_that_is_down() -> None:
    denied = PermissionError(13, "Permission denied", "/root/.postgresql/postgresql.key")
    with (
        pytest.raises(UnreachableError, match=r"set \$HOME .* or add sslmode=disable"),
        translate_errors("the database"),
    ):
        raise denied


def test_a_socket_without_a_server_is_a_database_that_cannot_be_reached() -> None:
    with (
        pytest.raises(UnreachableError, match="the database cannot be reached"),
        translate_errors("the database"),
    ):
        raise ConnectionRefusedError(111, "Connection refused")
