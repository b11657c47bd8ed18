"""All that is wrong with a file is told at once, with its place."""

import os
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from retentiond.config.load import load_config
from retentiond.config.problems import ConfigError, Problem
from retentiond.config.schema import Config
from retentiond.model.errors import UsageError
from tests.support.media_target import media_target

WHOLE = """\
targets:
  media:
    kind: dendrite_media
    dendrite_config: /etc/dendrite/dendrite.yaml
    databases: {sync_api: "postgresql://d@localhost/sync"}
    schedule: {cron: "30 3 * * *", jitter: 5m, timezone: Europe/Berlin}
    grace: 24h
    settle: 10m
    policies:
      - {name: big, match: {origin: remote, content_type: "video/*", larger_than: 20MiB}, keep: 7d}
      - {name: old, match: {uploaded_before: 2020-01-31, user: "@a:b", upload_name: "*.mp4"}, keep: 0s}
      - {name: remote, match: {origin: remote}, keep: 30d, since: created, remove: media}
      - {name: local, match: {origin: local}, keep: forever}
    protect: [profile_avatars]
    messages_in: []
    limits: {max_share: 0.4, max_items: 10, max_missing_files: 1}
    pace: {batch: 10000, concurrency: 64, max_items_per_second: 1}
    create_index: no
  other_media-2:
    kind: dendrite_media
    database: host=/run/postgresql dbname=dendrite
    media_path: /srv/media
    server_name: [example.org, "example.com:8448"]
    schedule: {every: 6h}
logging: {level: debug, format: logfmt}
"""
TARGET = """\
targets:
  media:
    kind: dendrite_media
    dendrite_config: /etc/dendrite/dendrite.yaml
"""


def load(tmp_path: Path, text: str | bytes, environment: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, environment or {})


def problems(tmp_path: Path, text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return caught.value.problems


def told(tmp_path: Path, text: str) -> list[str]:
    """Tell the problems as `line:column: key: message; hint`."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/config.yaml:") for line in str(caught.value).splitlines()]


def test_what_is_advised_is_written_as_yaml_has_it(tmp_path: Path) -> None:
    policy = "    policies: [{name: dead, match: {unreferenced: false}, keep: 30d}]\n"
    assert told(tmp_path, TARGET + policy + "metrics: {listen: 19187}\n") == [
        "5:51: targets.media.policies[0].match.unreferenced: must be true; write true",
        (
            "6:19: metrics.listen: not an address to listen at; "
            "write an IP address and a port, such as 127.0.0.1:19187"
        ),
    ]


def test_every_key_of_this_version_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    media, other = media_target(config), media_target(config, "other_media-2")
    assert [policy.keep for policy in media.policies] == [
        timedelta(days=7),
        timedelta(0),
        timedelta(days=30),
        None,
    ]
    assert media.policies[0].match.larger_than == 20 * 1024**2
    assert media.policies[1].match.uploaded_before == date(2020, 1, 31)
    assert media.protect == ("profile_avatars",)
    assert (media.limits.max_share, media.limits.max_items, media.limits.max_missing_files) == (0.4, 10, 1)
    assert (media.pace.batch, media.pace.concurrency, media.pace.max_items_per_second) == (10_000, 64, 1)
    assert not media.create_index
    assert media.schedule is not None
    assert media.schedule.cron == "30 3 * * *"
    assert other.database == SecretStr("host=/run/postgresql dbname=dendrite")
    assert other.media_path == Path("/srv/media")
    assert other.server_name == ("example.org", "example.com:8448")
    assert other.schedule is not None
    assert other.schedule.every == timedelta(hours=6)
    assert (config.logging.level, config.logging.format) == ("debug", "logfmt")


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
targets:
  media:
    kind: dendrite_media
    dendrite_config: dendrite.yaml
    polices: []
    grace: 30
    grace: 24h
    settle: 1:30
    hosts: []
    schedule: {every: 6h, cron: 30 3 * *}
    server_name: yes
    policies:
      - {name: 2024-01-01, match: {orign: remote}, keep: 30, since: acessed}
      - {name: a, match: {}, keep: -1d}
      - {name: a, match: {origin: }}
  chats:
    kind: chat_databse
    layout: webim
logging: {format: jsn}
"""
    target, policy = "targets.media", "targets.media.policies"
    assert [(problem.line, problem.column, problem.key) for problem in problems(tmp_path, text)] == [
        (4, 22, f"{target}.dendrite_config"),
        (5, 5, f"{target}.polices"),
        (6, 12, f"{target}.grace"),
        (7, 5, f"{target}.grace"),
        (8, 13, f"{target}.settle"),
        (9, 5, f"{target}.hosts"),
        (10, 23, f"{target}.schedule.every"),
        (10, 33, f"{target}.schedule.cron"),
        (11, 18, f"{target}.server_name"),
        (13, 16, f"{policy}[0].name"),
        (13, 36, f"{policy}[0].match.orign"),
        (13, 58, f"{policy}[0].keep"),
        (13, 69, f"{policy}[0].since"),
        (14, 19, f"{policy}[1].match"),
        (14, 36, f"{policy}[1].keep"),
        (15, 9, f"{policy}[2].keep"),
        (15, 16, f"{policy}[2].name"),
        (15, 19, f"{policy}[2].match"),
        (15, 34, f"{policy}[2].match.origin"),
        (17, 11, "targets.chats.kind"),
        (19, 19, "logging.format"),
    ]


def test_a_problem_is_one_line_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    assert told(tmp_path, TARGET + "    polices: []\n") == [
        "5:5: targets.media.polices: unknown key `polices`; did you mean `policies`?"
    ]
    assert told(tmp_path, TARGET + "    policies: [{name: a, match: {origin: remote}, keep: 30}]\n") == [
        "5:57: targets.media.policies[0].keep: a duration needs a unit; write 30d, 30h or 30m"
    ]


def test_a_configuration_that_is_wrong_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "")
    assert caught.value.exit_status == 2


def test_an_unknown_key_without_a_value_is_told_as_both(tmp_path: Path) -> None:
    assert told(tmp_path, TARGET + "    polices:\n") == [
        "5:5: targets.media.polices: unknown key `polices`; did you mean `policies`?",
        "5:13: targets.media.polices: has no value; give it one, or leave the key out",
    ]


def test_a_key_that_is_like_no_other_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (line,) = told(tmp_path, TARGET + "    pace: {zzz: 1}\n")
    assert line.endswith("known here: batch, concurrency, max_items_per_second")


def test_a_duplicate_key_is_an_error_with_the_line_of_the_first(tmp_path: Path) -> None:
    text = (
        TARGET
        + "    policies:\n    - name: a\n      match: {origin: remote}\n      match: {origin: local}\n      keep: 1d\n"
    )
    assert told(tmp_path, text) == [
        "8:7: targets.media.policies[0].match: duplicate key `match`; it is already on line 7; keep one of them"
    ]


@pytest.mark.parametrize("name", ["a b", "ä", "", "a" * 65, '"a\\n"', "a/b"])
def test_a_target_has_a_plain_name(tmp_path: Path, name: str) -> None:
    text = TARGET.replace("media:\n", f"{name or chr(39) * 2}:\n", 1)
    (problem,) = problems(tmp_path, text)
    assert (problem.line, problem.column) == (2, 3)
    assert "letters, digits" in problem.message


def test_without_dendrite_config_both_the_database_and_the_path_are_needed(tmp_path: Path) -> None:
    found = problems(tmp_path, "targets:\n  media:\n    kind: dendrite_media\n")
    assert [(problem.line, problem.column) for problem in found] == [(2, 3), (2, 3)]
    assert "`database` is missing" in f"{found[0].message} {found[0].hint}"
    assert "`media_path` is missing" in f"{found[1].message} {found[1].hint}"


def test_what_a_bad_reference_would_have_said_is_no_second_problem(tmp_path: Path) -> None:
    (problem,) = problems(
        tmp_path, "targets: {m: {kind: dendrite_media, dendrite_config: '${NOWHERE}', server_name: a.b}}"
    )
    assert "NOWHERE is not set" in problem.message


def test_a_missing_file_is_answered_with_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file; .*`retentiond init`") as caught:
        load_config(tmp_path / "nowhere.yaml", {})
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (None, None)
    assert str(problem).startswith(f"{tmp_path}/nowhere.yaml: there is")


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path, {})


@pytest.mark.timeout(120)
def test_a_named_pipe_is_no_configuration_to_wait_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="is not a plain file"):
        load_config(tmp_path / "config.yaml", {})


def test_the_pipe_that_a_shell_makes_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write("targets: {a: {}}")
    with pytest.raises(ConfigError, match="kind"):
        load_config(Path(f"/dev/fd/{reading}"), {})
    os.close(reading)


def test_a_name_that_no_file_can_have_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "a\0b", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / ("a" * 300), {})


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # To root, who may run the tests, no file is forbidden.
    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(ConfigError, match="may not read"):
        load_config(tmp_path / "config.yaml", {})


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "~", "- a\n", "text", "5", "{}", "targets: {}", "targets:"]
)
def test_a_file_without_targets_says_what_is_needed(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.line is not None
    assert problem.key in {"", "targets"}
    assert problem.hint
