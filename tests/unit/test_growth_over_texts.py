"""The work on a text that strangers wrote grows with its length, and not with its square: what runs in Python."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from retentiond.adapters.log_entries import redact
from retentiond.model.access_record import parse_line
from retentiond.model.match import glob
from retentiond.model.media import parse_media_uri, valid_hash
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

DATE = "[10/Oct/2020:13:55:36 +0000]"
REQUEST = "GET /_matrix/media/v3/download/"
CASES: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "a glob of many stars": (glob("*a*a*a*b").match, lambda n: "a" * n),
    "a glob of question marks": (glob("*a??a??a*?b").match, lambda n: "a" * n),
    "a glob without case": (glob("*.a*.a*.b", ignore_case=True).match, lambda n: ".a" * (n // 2)),
    "requests without an end": (
        lambda text: parse_line(text.encode(), "nginx"),
        lambda n: f'{DATE} "{REQUEST}' * (n // 60),
    ),
    "one request without an end": (
        lambda text: parse_line(text.encode(), "nginx"),
        lambda n: f'{DATE} "{REQUEST}' + "a " * (n // 2),
    ),
    "dates": (lambda text: parse_line(text.encode(), "nginx"), lambda n: DATE * (n // 28)),
    "a path of slashes": (
        lambda text: parse_line(text.encode(), "nginx"),
        lambda n: f'{DATE} "{REQUEST}{"/" * n} HTTP/1.1" 200',
    ),
    "a path of percent signs": (
        lambda text: parse_line(text.encode(), "caddy"),
        lambda n: json.dumps(
            {
                "ts": 1,
                "status": 200,
                "request": {"method": "GET", "uri": f"{REQUEST[4:]}a/" + "%41" * (n // 3)},
            }
        ),
    ),
    "a number": (lambda text: parse_line(text.encode(), "caddy"), lambda n: '{"ts": ' + "9" * n + "}"),
    "depth": (lambda text: parse_line(text.encode(), "caddy"), lambda n: "[" * n),
    "passwords without an end": (redact, lambda n: "password='" * (n // 10) + "\\\\" * (n // 4)),
    "space after a password": (redact, lambda n: "password" + " " * n),
    "addresses without an end": (redact, lambda n: "://" * (n // 3) + "@"),
    "a hash": (valid_hash, lambda n: "a" * n),
    "a URI": (parse_media_uri, lambda n: "mxc://" * (n // 6)),
    "what is shown": (printable, lambda n: "\u202e" * n),
}


def cost(call: Callable[[str], object], text: str) -> float:
    costs = []
    for _ in range(3):
        begun = time.process_time()
        call(text)
        costs.append(time.process_time() - begun)
    return min(costs)


@pytest.mark.parametrize("case", CASES)
def test_the_work_grows_with_the_length(case: str) -> None:
    call, worst = CASES[case]
    # Sixteen times the text: sixteen times the work, and not 256 times. What takes no time at all shows nothing.
    assert cost(call, worst(800_000)) <= 80 * max(cost(call, worst(50_000)), 0.0005)
