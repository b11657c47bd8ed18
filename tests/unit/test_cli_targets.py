"""Which configuration and which targets a command is for, and what becomes of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from retentiond.config.schema import KINDS
from retentiond.engine import capabilities
from retentiond.engine.target import Target
from retentiond.model.errors import BusyError, Refusal, UnreachableError, worst
from retentiond.targets import registry
from tests.support.command_line import CommandLine, log_entries
from tests.support.fake_target import FakeTarget, make_report


def two(tmp_path: Path, *, first: FakeTarget | None = None, second: FakeTarget | None = None) -> CommandLine:
    return CommandLine(tmp_path, (first or FakeTarget("media"), second or FakeTarget("pictures")))


def test_all_targets_are_meant_where_none_is_named(tmp_path: Path) -> None:
    line = two(tmp_path)
    assert [one["target"] for one in line.type("plan", "--json").document["passes"]] == ["media", "pictures"]


def test_a_target_named_twice_is_tried_once(tmp_path: Path) -> None:
    line = two(tmp_path)
    document = line.type("plan", "pictures", "pictures", "--json").document
    assert [one["target"] for one in document["passes"]] == ["pictures"]


def test_an_unknown_target_is_wrong_usage_and_the_nearest_is_named(tmp_path: Path) -> None:
    line = two(tmp_path)
    outcome = line.type("once", "media", "pictres")
    assert outcome.status == 2
    assert outcome.stderr == "retentiond: no target is named `pictres`; did you mean `pictures`?\n"
    assert not line.factory.configs


def test_an_unknown_target_like_no_other_is_answered_with_all_there_are(tmp_path: Path) -> None:
    assert "configured: media, pictures" in two(tmp_path).type("plan", "zzz").stderr


def test_the_option_wins_over_the_variable(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.environment["RETENTIOND_CONFIG"] = str(tmp_path / "none.yaml")
    assert line.type("plan").status == 2
    assert line.type("--config", str(line.config), "plan").status == 0


def test_without_option_and_variable_the_configuration_is_in_etc(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, environment={"RETENTIOND_CONFIG": ""})
    if Path("/etc/retentiond/config.yaml").exists():
        pytest.skip("this machine has a configuration of its own")
    outcome = line.type("plan")
    assert outcome.status == 2
    assert "/etc/retentiond/config.yaml: there is no such file" in outcome.stderr


def test_a_wrong_configuration_is_told_with_all_its_problems(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, tail="nonsense: 1\nother: 2\n")
    outcome = line.type("plan", "--json")
    assert outcome.status == 2
    told = outcome.stderr.splitlines()
    assert [text.startswith(f"retentiond: {line.config}:") for text in told] == [True, True]


def test_dendrites_configuration_alone_makes_a_target_named_media(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.config.unlink()
    outcome = line.type(
        "plan", "--dendrite-config", "/etc/dendrite.yaml", "--days", "90", "--local", "--json"
    )
    assert outcome.status == 0
    config = line.factory.configs["media"]
    assert config.dendrite_config == Path("/etc/dendrite.yaml")
    assert [(policy.name, policy.keep and policy.keep.days) for policy in config.policies] == [
        ("remote", 90),
        ("local", 90),
    ]


def test_dendrites_configuration_alone_keeps_remote_media_for_30_days(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    assert line.type("once", "--dendrite-config", "/etc/dendrite.yaml").status == 0
    (policy,) = line.factory.configs["media"].policies
    assert (policy.name, policy.keep and policy.keep.days) == ("remote", 30)


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "x", "plan", "--dendrite-config", "y"),
        ("plan", "media", "--dendrite-config", "y"),
        ("plan", "--days", "3"),
        ("once", "--local"),
        ("plan", "--dendrite-config", "y", "--days", "-1"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    line = CommandLine(tmp_path)
    assert line.type(*words).status == 2
    assert not line.factory.configs


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([], 0), ([0, 0], 0), ([0, 1], 1), ([1, 5], 5), ([5, 3], 3), ([3, 4, 5, 1], 4), ([4, 2], 2)],
)
def test_of_several_exit_statuses_the_worst_is_taken(statuses: list[int], expected: int) -> None:
    assert worst(statuses) == expected


def test_a_target_that_is_busy_does_not_keep_the_next_from_its_turn(tmp_path: Path) -> None:
    busy = FakeTarget(
        "media", unreachable=BusyError("retentiond on host a, process 7, is at work; try later")
    )
    outcome = two(tmp_path, first=busy).type("once", "--json")
    assert outcome.status == 5
    assert [one["target"] for one in outcome.document["passes"]] == ["pictures"]
    assert "retentiond: media: retentiond on host a, process 7, is at work; try later\n" in outcome.stderr


def test_an_unreachable_target_is_worse_than_a_refused_one(tmp_path: Path) -> None:
    refused = make_report("pictures", "refused")
    refused.refused = Refusal("max_share", 0.9, 0.5, "look at the plan")
    outcome = two(
        tmp_path,
        first=FakeTarget("media", unreachable=UnreachableError("the database does not answer; start it")),
        second=FakeTarget("pictures", report=refused),
    ).type("once", "--json")
    assert outcome.status == 4
    assert [one["state"] for one in outcome.document["passes"]] == ["refused"]


def test_what_nobody_foresaw_with_one_target_is_told_and_the_next_is_tried(tmp_path: Path) -> None:
    outcome = two(tmp_path, first=FakeTarget("media", unreachable=KeyError("surprise"))).type(
        "once", "--json"
    )
    assert outcome.status == 1
    assert [one["target"] for one in outcome.document["passes"]] == ["pictures"]
    (entry,) = log_entries(outcome.stderr)
    assert (entry["event"], entry["level"], entry["kind"]) == ("unexpected_error", "error", "KeyError")
    assert "retentiond: media: unexpected KeyError: 'surprise'" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_traceback_of_what_nobody_foresaw_comes_with_debug(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget(unreachable=KeyError("surprise")),))
    (entry,) = log_entries(line.type("--debug", "once", "--json").stderr)
    assert entry["exception"][0]["exc_type"] == "KeyError"


def test_an_error_that_quotes_a_connection_string_is_told_without_its_password(tmp_path: Path) -> None:
    quoted = UnreachableError("postgresql://dendrite:hunter2@localhost/dendrite does not answer; start it")
    outcome = CommandLine(tmp_path, (FakeTarget(unreachable=quoted),)).type("plan")
    assert outcome.status == 4
    assert "hunter2" not in outcome.stderr
    assert "does not answer" in outcome.stderr


def test_an_error_cannot_command_the_terminal(tmp_path: Path) -> None:
    nasty = UnreachableError("[bold]\x1b]0;gotcha\x07; look [there]")
    outcome = CommandLine(tmp_path, (FakeTarget(unreachable=nasty),)).type("plan")
    assert "\x1b" not in outcome.stderr
    assert "[bold]" in outcome.stderr


def test_each_opened_target_is_closed_again(tmp_path: Path) -> None:
    line = two(tmp_path)
    line.type("once")
    assert line.factory.closed == ["media", "pictures"]


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        ("HasHolds", ["hold", "list"]),
        ("HasHolds", ["hold", "add", "--media", "mxc://example.org/abc"]),
        ("HasHolds", ["hold", "release", "--media", "mxc://example.org/abc"]),
        ("HasRecords", ["records", "export"]),
        ("HasRecords", ["records", "verify"]),
        ("HasStatistics", ["report", "--html", "report.html"]),
    ],
)
def test_a_verb_leaves_out_targets_of_a_kind_that_cannot_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, words: list[str]
) -> None:
    lacking = getattr(capabilities, capability)
    monkeypatch.setattr(registry, "has", lambda _config, asked: asked is not lacking)
    line = CommandLine(tmp_path)
    outcome = line.type(*words)
    assert outcome.status == 2
    assert outcome.stderr.startswith("retentiond: the configuration: no ")
    assert not line.factory.configs


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_names_each_capability_that_it_has(kind: str) -> None:
    """A verb asks for the bases of the class: one that is left out takes the verb away from all targets of the kind."""
    target = registry._KINDS[KINDS[kind]]().target
    for capability in vars(capabilities).values():
        if Target not in getattr(capability, "__mro__", ()):
            continue
        own = [name for name in vars(capability) if name[0] != "_" and not hasattr(Target, name)]
        if own:
            has = all(hasattr(target, name) for name in own)
            assert (capability in target.__mro__) == has, capability.__name__
