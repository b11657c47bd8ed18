"""The section `notify`: what it refuses, and in which words."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from retentiond.config.notify import Notify

PING = {"ping": [{"url": "https://ping.test/uuid"}]}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "needs `ping`, `webhooks` or `apprise`"),
        ({"ping": []}, "needs `ping`, `webhooks` or `apprise`"),
        ({"ping": [{"url": "ping.test/secret"}]}, "not a URL"),
        ({"webhooks": [{"url": "ftp://hook.test/secret"}]}, "not a URL"),
        (
            {"webhooks": [{"url": "https://hook.test", "headers": {"X: Y": "z"}}]},
            "not the name of an HTTP header",
        ),
        ({"webhooks": [{"url": "https://hook.test", "headers": {"X": "z\nsecret"}}]}, "not the value"),
        ({"apprise": ["nothing-known://secret"]}, "not a URL that Apprise knows"),
        (PING | {"events": []}, "at least 1 item"),
        (PING | {"events": ["success"]}, "Input should be"),
        (PING | {"title": "$secret"}, "has no `$secret`"),
        (PING | {"message": "50 $ of"}, "must be followed by a name"),
        (PING | {"quiet_hours": {"begin": 1320, "end": "07:00"}}, "with quotes"),
        (PING | {"quiet_hours": {"begin": "07:00", "end": "07:00"}}, "is the same as `begin`"),
    ],
)
def test_an_unusable_value_is_refused_without_a_secret(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("$", r"\$")) as caught:
        Notify.model_validate(keys)
    if "title" not in keys:
        assert "secret" not in str(caught.value)


def test_a_url_that_apprise_cannot_use_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ValidationError, match="not a URL that Apprise knows"):
        Notify.model_validate({"apprise": ["tgram://secret-token/chat"]})
    assert "secret" not in caplog.text


def test_apprise_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ValidationError, match=r"pip install 'retentiond\[notify\]'"):
        Notify.model_validate({"apprise": ["mailto://here.test"]})


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - the zone is the strategy's
    st.integers(0, 23),
    st.integers(0, 23),
)
def test_quiet_hours_end_within_a_day_and_outside_of_themselves(
    moment: datetime, begin: int, end: int
) -> None:
    if begin == end:
        return
    keys = PING | {"quiet_hours": {"begin": f"{begin:02}:00", "end": f"{end:02}:00", "timezone": "UTC"}}
    quiet = Notify.model_validate(keys).quiet
    assert quiet is not None
    moment = moment.replace(tzinfo=ZoneInfo("UTC"))
    until = quiet.until(moment)
    inside = begin <= moment.hour < end if begin < end else moment.hour >= begin or moment.hour < end
    assert (until is not None) == inside
    if until is not None:
        assert timedelta(0) < until - moment <= timedelta(days=1)
        assert quiet.until(until) is None
