"""Drills of newcomers, and their siblings: an open set that a place does not handle is an error, not a filter.

Each drill edits a copy of the package as somebody would who adds one thing and forgets the next place.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from retentiond.config.media import MediaTarget
from retentiond.config.policies import MatchConfig, PolicyConfig, QuotaConfig
from retentiond.config.schema import check_kinds
from retentiond.model.facts import read_facts
from retentiond.model.fields import all_handled
from retentiond.model.match import CONDITIONS, Match, OfReferences
from retentiond.model.media import MediaRow
from retentiond.model.protections import protecting
from retentiond.targets.registry import open_target
from retentiond.targets.settings import resolve_target

ROOT = Path(__file__).resolve().parents[2]
FIELD = "    unreferenced: Literal[True] | None = "
SCHEMA_KEY = '    animated: bool | None = Field(default=None, description="Whether it moves.")\n'
FACT_OF_THE_MODEL = "    animated: bool | None = None\n"


class Newcomer:
    """A copy of the package that somebody edits."""

    def __init__(self, root: Path) -> None:
        self._root = root
        shutil.copytree(
            ROOT / "retentiond", root / "retentiond", ignore=shutil.ignore_patterns("__pycache__")
        )

    def insert(self, file: str, before: str, line: str) -> None:
        """Put text before the first place that has another."""
        path = self._root / "retentiond" / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, line + before, 1))

    def run(self, code: str) -> tuple[str, str]:
        """Run code by the copy; return its output, and the last line of its errors."""
        done = subprocess.run(
            [sys.executable, "-c", f"import retentiond\n{code}"],
            cwd=self._root,
            env={"PYTHONPATH": str(self._root)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip(), (done.stderr.strip().splitlines() or [""])[-1]

    def is_stopped(self, code: str, why: str) -> None:
        """See that the copy cannot run the code, with the reason."""
        assert self.run(f"{code}; print('it ran')") == ("", f"TypeError: {why}")


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path)


def test_a_protection_that_no_statement_reads_stops_the_program_instead_of_deleting(
    newcomer: Newcomer,
) -> None:
    """Once a tuple filtered silently the name that the configuration accepted, and the media were deleted."""
    newcomer.insert(
        "model/protections.py",
        "    Protection(\n        name=MESSAGES_IN,",
        '    Protection(name="widgets", reason="a widget shows it", media="pictures of widgets"),\n',
    )
    accepted = (
        "from retentiond.config.media import MediaTarget as M; from retentiond.terminal.words import REASONS;"
        "print(M.model_fields['protect'].default[-1], REASONS['widgets'])"
    )
    assert newcomer.run(accepted) == ("widgets a widget shows it", "")
    opened = (
        "from retentiond.config.media import MediaTarget as M; from retentiond.targets.registry import open_target;"
        "open_target('media', M(kind='dendrite_media', database='postgresql://localhost/d', media_path='/m'))"
    )
    for entrance in (opened, "import retentiond.daemon.run"):
        newcomer.is_stopped(entrance, "no statement of references yields the source widgets")


def test_a_condition_that_one_place_leaves_out_stops_the_program_instead_of_matching_every_row(
    newcomer: Newcomer,
) -> None:
    """Once a condition of the schema was not copied into the rule, which then matched whatever the others did."""
    newcomer.insert("config/policies.py", FIELD, SCHEMA_KEY)
    newcomer.is_stopped(
        "import retentiond.config.schema",
        "config/policies.py and model/match.py: CONDITIONS must handle the fields of MatchConfig: missing animated, unknown none",
    )
    newcomer.insert("model/match.py", FIELD, FACT_OF_THE_MODEL)
    newcomer.is_stopped(
        "import retentiond.config.schema",
        "model/match.py: CONDITIONS must handle the fields of Match: missing animated, unknown none",
    )
    newcomer.insert(
        "model/match.py",
        '    "room": OfReferences(',
        '    "animated": OfRow(lambda wanted, row, _names: (row.content_type == "image/gif") == wanted),\n',
    )
    newcomer.is_stopped(
        "import retentiond.cli.plan",
        "terminal/words.py: _CONDITIONS must handle the fields of MatchConfig: missing animated, unknown none",
    )
    newcomer.insert(
        "terminal/words.py",
        '    "unreferenced": lambda _true',
        '    "animated": lambda wanted: "that move" if wanted else "that do not move",\n',
    )
    judged = (
        "from retentiond.config.policies import MatchConfig as C; from retentiond.model.match import matches;"
        "from retentiond.model.media import MediaRow as R;"
        "match = C(animated=True).to_match(frozenset());"
        "row = lambda kind: R('id', 'there.test', kind, 1, 0, '', 'A' * 43, '');"
        "print(*(matches(row(kind), match, frozenset()) for kind in ('image/gif', 'image/png')))"
    )
    assert newcomer.run(judged) == ("True False", "")


def test_a_condition_or_key_that_the_verdicts_in_sql_leave_out_stops_the_program_instead_of_deleting(
    newcomer: Newcomer,
) -> None:
    """A key of a policy that only `decide` knew was ignored for each row whose verdict PostgreSQL computes."""
    verdicts = "import retentiond.targets.dendrite_media.surveys.verdicts"
    newcomer.insert("model/policy.py", '    since: Since = "created"', "    only_idle: bool = False\n")
    newcomer.is_stopped(
        verdicts, "model/policy.py: decide must handle the fields of Policy: missing only_idle, unknown none"
    )
    newcomer.insert("model/policy.py", '"since", "removes"}', '"only_idle", ')
    newcomer.insert("model/facts.py", '"since", "removes"}', '"only_idle", ')
    newcomer.is_stopped(
        verdicts,
        "surveys/verdicts.py: _step and _age must handle the fields of Policy: missing only_idle, unknown none",
    )
    newcomer.insert("model/match.py", FIELD, FACT_OF_THE_MODEL)
    newcomer.insert(
        "model/match.py", '    "room": OfReferences(', '    "animated": OfRow(lambda *_: True),\n'
    )
    newcomer.is_stopped(
        verdicts,
        "surveys/verdicts.py: _CONDITIONS must handle the fields of Match: missing animated, unknown none",
    )


def test_a_condition_on_references_without_words_for_its_facts_stops_the_program(newcomer: Newcomer) -> None:
    newcomer.insert("model/match.py", FIELD, FACT_OF_THE_MODEL)
    newcomer.insert(
        "model/match.py",
        '    "room": OfReferences(',
        '    "animated": OfReferences(lambda *_: True, lambda _: ("animated",)),\n',
    )
    newcomer.is_stopped(
        "import retentiond.model.facts",
        "model/facts.py: _IN_WORDS must have the conditions that references decide",
    )


def test_a_kind_that_cannot_be_opened_stops_the_program_instead_of_being_taken_for_another(
    newcomer: Newcomer,
) -> None:
    newcomer.insert(
        "config/schema.py",
        "TargetConfig: TypeAlias = MediaTarget | ChatTarget",
        'class Rooms(Section):\n    """Rooms."""\n\n    kind: Literal["rooms"]\n\n\n',
    )
    newcomer.insert("config/schema.py", '\n"""A target of any kind."""', " | Rooms")
    for module, table in (("registry", "_KINDS"), ("settings", "_RESOLVERS")):
        newcomer.is_stopped(
            f"import retentiond.targets.{module}",
            f"targets/{module}.py: {table} must have each section of a target, and no other",
        )


@pytest.mark.parametrize("call", [open_target, lambda _name, config: resolve_target(config)])
def test_a_target_of_an_unknown_section_is_not_taken_for_media(call: Any) -> None:
    class Other(MediaTarget):
        """A section that nobody registered."""

    other = Other(kind="dendrite_media", database="postgresql://localhost/d", media_path="/m")
    with pytest.raises(KeyError):
        call("other", other)


def test_a_rule_without_a_condition_cannot_be_built_in_any_way() -> None:
    with pytest.raises(ValueError, match="would match every row"):
        Match()
    with pytest.raises(ValueError, match="would match every row"):
        replace(Match(origin="remote"), origin=None)
    with pytest.raises(ValidationError, match="is empty and would match everything"):
        MatchConfig.model_validate({})
    with pytest.raises(ValueError, match="would match every row"):
        MatchConfig.model_construct(**dict.fromkeys(CONDITIONS)).to_match(frozenset())
    stored = {"name": "all", "keep_seconds": 0, "match": {}}
    for facts in ({"policies": [stored]}, {"quota": stored}):
        with pytest.raises(ValueError, match="would match every row"):
            read_facts(facts)


class MorePolicy(PolicyConfig):
    """A policy with a key that the decisions do not know."""

    only_on_mondays: bool = False


class MoreQuota(QuotaConfig):
    """A quota with such a key."""

    only_on_mondays: bool = False


def test_a_key_of_a_rule_that_the_decisions_do_not_know_is_an_error_not_left_out() -> None:
    match = {"origin": "remote"}
    with pytest.raises(TypeError, match="only_on_mondays"):
        MorePolicy.model_validate({"name": "p", "match": match, "keep": "1d"}).to_policy()
    with pytest.raises(TypeError, match="only_on_mondays"):
        MoreQuota.model_validate({"match": match, "max_size": "1GiB"}).to_quota(0)


def test_a_name_that_is_no_protection_is_an_error_where_it_would_protect_nothing() -> None:
    with pytest.raises(ValueError, match="no protection is called widgets"):
        list(protecting(("widgets", "room_state"), messages_in=False, accepts=frozenset()))


def test_a_field_that_is_gone_is_told_like_one_that_is_new() -> None:
    with pytest.raises(
        TypeError, match=r"somewhere must handle .* MatchConfig: missing .*room.*, unknown hue"
    ):
        all_handled(MatchConfig, {"hue"}, "somewhere")


def test_a_table_of_kinds_that_leaves_one_out_stops_the_program_instead_of_failing_after_a_pass() -> None:
    with pytest.raises(TypeError, match="words must have each kind of target"):
        check_kinds({"dendrite_media"}, "words")


def test_a_condition_that_references_decide_does_not_hold_where_they_were_not_read() -> None:
    """A new one could ask for the absence of a mention, and then take all rows of a store without copies."""
    condition = OfReferences(lambda _value, mentions: "pins" not in mentions, lambda _value: ("pins",))
    row = MediaRow("id", "there.test", "image/png", 100, 0, "cat.png", "A" * 43, "")
    assert not condition.holds(True, row, frozenset(), None)
    assert condition.holds(True, row, frozenset(), frozenset())
