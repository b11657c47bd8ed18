"""Policies that can never match, shadowed ones, and times that are too short are warned of, with their place."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.config.load import load_config, load_with_places
from retentiond.config.problems import ConfigError
from retentiond.config.warnings import policy_warnings
from retentiond.model.check import PolicyCount
from retentiond.model.match import Match
from retentiond.model.policy_coverage import covers
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

OURS = frozenset({"here.test"})
HEAD = """\
targets:
  media:
    kind: dendrite_media
    database: postgresql://d@localhost/d
    media_path: /srv/media
    server_name: here.test
"""


def warned(tmp_path: Path, text: str) -> list[str]:
    """Return the warnings about a target, without the file's directory."""
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + text)
    config, document = load_with_places(path, {})
    return [
        str(problem).removeprefix(f"{tmp_path}/")
        for problem in policy_warnings(document, config, {"media": OURS})
    ]


def policies(*matches: str, keep: str = "30d") -> str:
    return "    policies:\n" + "".join(
        f"      - {{name: p{number}, match: {match}, keep: {keep}}}\n" for number, match in enumerate(matches)
    )


@pytest.mark.parametrize(
    ("origin", "keyword"),
    [("remotes", "remote"), ("Remot", "remote"), ("locals", "local"), ("lokal", "local")],
)
def test_a_misspelled_origin_is_an_error_with_the_nearest_keyword(
    tmp_path: Path, origin: str, keyword: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + policies(f"{{origin: {origin}}}"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (8, "targets.media.policies[0].match.origin")
    assert f"did you mean `{keyword}`?" in str(problem)


@pytest.mark.parametrize("origin", ["localhost", "remote?", "remotes.example.org", "remotes:8448", "matrix"])
def test_a_servers_name_is_no_misspelled_keyword(tmp_path: Path, origin: str) -> None:
    assert warned(tmp_path, policies(f'{{origin: "{origin}"}}')) == []


@pytest.mark.parametrize(
    ("match", "column", "told"),
    [
        ('{origin: remote, user: "@a:here.test"}', 50, "user: never matches together with `origin: remote`"),
        ('{origin: "*.org", user: "@a:here.test"}', 51, "user: never matches together with `origin: *.org`"),
        ('{user: "@spam:there.test"}', 34, "user: never matches: only users of here.test upload"),
        ('{user: "@*:there.test"}', 34, "user: never matches: only users of here.test upload"),
        ("{unreferenced: true, room: upgraded}", 54, "room: never matches together with `unreferenced`"),
        ("{uploaded_before: 2016-05-01}", 45, "uploaded_before: nothing is ever due"),
    ],
)
def test_conditions_that_exclude_each_other_are_warned_of_at_their_place(
    tmp_path: Path, match: str, column: int, told: str
) -> None:
    (warning,) = warned(tmp_path, policies(match))
    assert warning.startswith(f"config.yaml:8:{column}: warning: targets.media.policies[0].match.{told}")


@pytest.mark.parametrize(
    "match",
    ['{user: "@bot-*"}', '{user: "@a:here.test"}', '{user: "@*:HERE.test", origin: local}', '{user: "@a*t"}'],
)
def test_a_user_of_this_server_can_match(tmp_path: Path, match: str) -> None:
    assert warned(tmp_path, policies(match)) == []


def test_a_quota_that_can_never_match_is_warned_of(tmp_path: Path) -> None:
    quota = '    quota:\n      - {match: {origin: remote, user: "@a:here.test"}, max_size: 1GiB}\n'
    (warning,) = warned(tmp_path, quota)
    assert "warning: targets.media.quota[0].match.user: never matches" in warning


def test_a_shadowed_policy_is_warned_of_with_the_one_before_it(tmp_path: Path) -> None:
    (warning,) = warned(tmp_path, policies("{origin: remote}", '{origin: remote, content_type: "video/*"}'))
    assert warning.startswith("config.yaml:9:")
    assert "policies[1].match: never decides: policy p0, keep 30d, comes before it" in warning
    assert warning.endswith("if it is meant to decide, move it before that one; otherwise remove it")


def test_a_policy_for_thumbnails_does_not_shadow_one_for_media(tmp_path: Path) -> None:
    text = (
        "    policies:\n"
        "      - {name: thumbs, match: {origin: remote}, keep: 7d, remove: thumbnails}\n"
        "      - {name: media, match: {origin: remote}, keep: 30d}\n"
    )
    assert warned(tmp_path, text) == []


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (Match(origin="remote"), Match(origin="there.test"), True),
        (Match(origin="remote"), Match(origin="*.test"), True),
        (Match(origin="remote"), Match(origin="here.test"), False),
        (Match(origin="remote"), Match(origin="local"), False),
        (Match(origin="local"), Match(origin="here.test"), True),
        (Match(origin="*"), Match(origin="remote"), True),
        (Match(origin="*.test"), Match(origin="*.there.test"), True),
        (Match(origin="*.test"), Match(origin="here.test"), False),
        (Match(origin="a.test"), Match(origin="b.test"), False),
        (Match(content_type="image/*"), Match(content_type="image/png"), True),
        (Match(content_type="image/???"), Match(content_type="image/*"), False),
        (Match(content_type="image/png"), Match(origin="remote"), False),
        (Match(larger_than=10), Match(larger_than=20), True),
        (Match(larger_than=20), Match(larger_than=10), False),
        (Match(unreferenced=True), Match(unreferenced=True, origin="remote"), True),
        (Match(unreferenced=True), Match(origin="remote"), False),
        (
            Match(unreferenced=True),
            Match(unreferenced=True, content_type="application/octet-stream"),
            False,
        ),
        (Match(room="upgraded"), Match(room="no_local_members"), False),
    ],
)
def test_a_match_covers_another_only_where_that_is_certain(wide: Match, narrow: Match, covered: bool) -> None:
    assert covers(wide, narrow, OURS) is covered
    assert covers(wide, wide, OURS)


def test_a_field_that_is_not_known_to_narrow_a_match_must_be_equal() -> None:
    known = {
        "origin", "user", "content_type", "larger_than", "uploaded_before", "upload_name", "room", "unreferenced"
    }  # fmt: skip
    for field in fields(Match):
        if field.name not in known:
            other: dict[str, Any] = {field.name: frozenset({"encrypted"})}
            assert not covers(Match(origin="remote"), Match(origin="remote", **other), OURS)


def test_a_settle_below_its_default_is_warned_of_at_its_place(tmp_path: Path) -> None:
    (warning,) = warned(tmp_path, "    settle: 5m\n")
    assert warning.startswith("config.yaml:7:13: warning: targets.media.settle: is below 10m: a file can be")
    assert warned(tmp_path, "    settle: 10m\n") == []


def test_unreferenced_with_a_keep_below_one_day_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warned(tmp_path, policies("{unreferenced: true}", keep="23h"))
    assert "policies[0].keep: is below one day with `unreferenced`" in warning
    assert warned(tmp_path, policies("{unreferenced: true}", keep="1d")) == []
    assert warned(tmp_path, policies("{origin: remote}", keep="1h")) == []


def line_with(tmp_path: Path, text: str, **others: Any) -> CommandLine:
    line = CommandLine(tmp_path, (FakeTarget(**others),))
    line.config.write_text(HEAD + text)
    return line


def test_check_config_prints_warnings_to_standard_error_and_exits_0(tmp_path: Path) -> None:
    line = line_with(tmp_path, "    settle: 5m\n")
    outcome = line.type("check-config")
    assert outcome.status == 0
    assert outcome.stderr.startswith(f"{line.config}:7:13: warning: targets.media.settle: ")
    assert "warning" not in outcome.stdout
    assert line.type("-q", "check-config").stderr == ""


def test_check_config_as_json_has_problems_and_warnings_with_their_places(tmp_path: Path) -> None:
    line = line_with(tmp_path, "    settle: 5m\n")
    outcome = line.type("check-config", "--json")
    (warning,) = outcome.document["warnings"]
    assert (warning["line"], warning["column"], warning["key"]) == (7, 13, "targets.media.settle")
    assert outcome.document["problems"] == []
    line.config.write_text(HEAD + "    settle: 5\n")
    outcome = line.type("check-config", "--json")
    assert outcome.status == 2
    assert [problem["key"] for problem in outcome.document["problems"]] == ["targets.media.settle"]


def test_check_config_shows_the_entries_of_each_policy_and_warns_at_none(tmp_path: Path) -> None:
    counts = (PolicyCount("p0", 12, 5), PolicyCount("p1", 0, 0))
    line = line_with(tmp_path, policies("{origin: remote}", "{origin: local}"), policy_counts=counts)
    outcome = line.type("check-config", "--connect")
    assert outcome.status == 0
    assert "12 entries now, 5 due" in outcome.stdout
    assert ":9:" in outcome.stderr
    assert "warning: targets.media.policies[1].match: matches no entry in the database now" in outcome.stderr
    (target,) = line.type("check-config", "--connect", "--json").document["targets"]
    assert target["policies"] == [
        {"name": "p0", "items": 12, "due": 5},
        {"name": "p1", "items": 0, "due": 0},
    ]
