"""Chat targets and layouts: what may be written, and what is said of what may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retentiond.config.chats import ChatTarget
from retentiond.config.load import load_config
from retentiond.config.problems import ConfigError
from retentiond.config.units import format_duration
from retentiond.targets.chat_database.layout import Layout, read_layout

if TYPE_CHECKING:
    from pathlib import Path

CHATS = """\
targets:
  chats:
    kind: chat_database
    database: postgresql://webim:hunter2@localhost/webim
    accounts:
      testcom: {schema: pro, keep: 400d}
"""
LAYOUT = """\
chat: talk
entities:
  talk: {class: facts, key: id, dates: [began], state: {column: state, over: [done]}}
  line: {class: messages, parent: talk, column: talk}
"""


def loaded(tmp_path: Path, text: str) -> ChatTarget:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    target = load_config(path, {}).targets["chats"]
    assert isinstance(target, ChatTarget)
    return target


def told(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/config.yaml:") for problem in error.value.problems]


def test_no_cluster_may_be_written_as_null_and_nothing_else_may(tmp_path: Path) -> None:
    clickhouse = "    clickhouse: {url: 'http://localhost:8123', cluster: null"
    store = loaded(tmp_path, CHATS + clickhouse + "}\n").clickhouse
    assert store is not None
    assert store.cluster is None
    refused = [
        clickhouse.replace(" null", "") + "}\n",
        clickhouse + ", thread_column: null}\n",
        "    elasticsearch: {url: 'http://localhost:9200', index: null}\n",
    ]
    for text in refused:
        (problem,) = told(tmp_path, CHATS + text)
        assert "has no value" in problem


def test_the_url_of_a_store_is_one_or_a_list(tmp_path: Path) -> None:
    one = loaded(tmp_path, CHATS + "    elasticsearch: {url: 'http://a:9200', index: chats}\n").elasticsearch
    several = loaded(
        tmp_path, CHATS + "    clickhouse: {url: ['http://a:8123', 'http://b:8123/x']}\n"
    ).clickhouse
    assert one is not None
    assert several is not None
    assert (one.url, several.url) == (("http://a:9200",), ("http://a:8123", "http://b:8123/x"))


@pytest.mark.parametrize("section", ["clickhouse: {", "elasticsearch: {index: chats, "])
@pytest.mark.parametrize(
    ("url", "column", "key", "problem"),
    [
        ("a:8123", 0, "url", "not a URL; write one such as"),
        ("http://ann:hunter2@a", 0, "url", "must not hold a password"),
        ("[http://a, http://ann:hunter2@b]", 11, "url[1]", "must not hold a password"),
        ("[http://a, 8123]", 11, "url[1]", "YAML reads `8123` as a number"),
        ("[http://a:1, http://b:1, http://A:1/]", 25, "url[2]", "is the same server as entry 1; keep one of them"),
        ("[]", -5, "url", "must not be empty; write at least one"),
        ("{a: http://a}", -5, "url", "must be text; write one value"),
    ],
)  # fmt: skip
def test_a_wrong_url_is_reported_where_it_is_written(
    tmp_path: Path, section: str, url: str, column: int, key: str, problem: str
) -> None:
    line = f"    {section}url: "
    (found,) = told(tmp_path, f"{CHATS}{line}{url}}}\n")
    store = section.partition(":")[0]
    assert found.startswith(f"7:{len(line) + 1 + column}: targets.chats.{store}.{key}: {problem}")
    assert "hunter2" not in found


def test_what_nobody_says_is_as_the_interface_has_it(tmp_path: Path) -> None:
    target = loaded(tmp_path, CHATS)
    assert (target.layout, target.date_rule, target.timezone) == ("webim", "floor", "UTC")
    assert {format_duration(target.floor.messages), format_duration(target.floor.facts)} == {"365d"}
    pace = target.pace
    assert (pace.batch, pace.max_rows_per_second, format_duration(pace.max_replica_lag)) == (
        1000,
        50_000,
        "10s",
    )
    account = target.accounts["testcom"]
    assert (account.schema_, account.delete_file_messages, account.stats) == ("pro", False, False)


def test_a_floor_may_be_one_time_or_one_for_each_class(tmp_path: Path) -> None:
    one = loaded(tmp_path, CHATS + "    floor: 390d\n").floor
    assert format_duration(one.messages) == format_duration(one.facts) == "390d"
    each = loaded(tmp_path, CHATS + "    floor: {messages: 183d}\n").floor
    assert (format_duration(each.messages), format_duration(each.facts)) == ("183d", "365d")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("floor: 500d", "6:36: targets.chats.accounts.testcom.keep: is below the floor; write 500d or more"),
        ("floor: {facts: 3y}", "6:36: targets.chats.accounts.testcom.keep: is below the floor; write 3y or more"),
        (
            "date_rule: within",
            "6:36: targets.chats.accounts.testcom.keep: is above the floor, and `date_rule: within` allows no older",
        ),
        ("floor: 365", "7:12: targets.chats.floor: a duration needs a unit; write 365d, 365h or 365m"),
        ("floor: {message: 1y}", "7:13: targets.chats.floor.message: unknown key `message`; did you mean `messages`?"),
        ("layout: webin", "7:13: targets.chats.layout: not a layout that comes with retentiond; write webim or chatwoot, or a file's path"),
        ("layout: ./mine.yaml", "7:13: targets.chats.layout: must be an absolute path, without `..`"),
        ("timezone: Europe/Moskow", "7:15: targets.chats.timezone: not a time zone that this machine knows; write one such as Europe/Berlin or UTC"),
        ("grace: 24h", "7:5: targets.chats.grace: unknown key `grace`; did you mean `pace`?"),
        ("pace: {max_replica_lag: 0s}", "7:29: targets.chats.pace.max_replica_lag: must be longer than 0s"),
        ("media_path: /srv", "7:5: targets.chats.media_path: unknown key `media_path`"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    (found,) = told(tmp_path, f"{CHATS}    {line}\n")
    assert found.startswith(problem)


def test_an_account_that_wants_a_store_needs_its_section(tmp_path: Path) -> None:
    text = CHATS.replace("keep: 400d", "keep: 400d, clickhouse: true")
    (problem,) = told(tmp_path, text)
    assert "needs the section `clickhouse` of the target" in problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("", "2:3: targets.chats.kind: is missing; add it"),
        ("kind: chat_databse", "3:11: targets.chats.kind: must be dendrite_media or chat_database or dendrite_rooms; did you mean `chat_database`?"),
    ],
)  # fmt: skip
def test_a_target_says_which_kind_it_is(tmp_path: Path, change: str, problem: str) -> None:
    (found,) = told(tmp_path, CHATS.replace("kind: chat_database", change))
    assert found == problem


def test_the_password_of_the_database_is_shown_nowhere(tmp_path: Path) -> None:
    assert "hunter2" not in repr(loaded(tmp_path, CHATS))


def layout(tmp_path: Path, text: str) -> Layout:
    path = tmp_path / "layout.yaml"
    path.write_text(text)
    return read_layout(str(path))


def layout_problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        layout(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/layout.yaml:") for problem in error.value.problems]


def test_the_order_of_deletion_is_worked_out_from_what_hangs_on_what() -> None:
    webim = read_layout("webim")
    order = webim.order
    for name, entity in webim.entities.items():
        if entity.parent is not None:
            assert order.index(name) < order.index(entity.parent)
    assert order.index("chatthread") < order.index("chatvisitsession")
    assert webim.tree("chatstats") == ("chatstatslog", "chatstats")


def test_a_layout_needs_no_more_than_a_chat_and_what_hangs_on_it(tmp_path: Path) -> None:
    small = layout(tmp_path, LAYOUT)
    assert (small.order, small.table("line")) == (("line", "talk"), "line")
    assert small.classes(stats=False) == {"facts", "messages"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("chat: talk", "chat: tolk", "1:7: chat: is not an entity of the layout; write one of talk, line"),
        ("parent: talk", "parent: tolk", "4:35: entities.line.parent: is not an entity of the layout; name one of them"),
        ("parent: talk", "parent: line", "2:1: entities: refer to each other in a circle: line → line; break it"),
        ("key: id, ", "", "3:3: entities.talk: needs `key`; add it"),
        (", state: {column: state, over: [done]}", "", "3:3: entities.talk: needs `state`; add it"),
        (", column: talk", "", "4:3: entities.line: needs `column`; add it"),
        ("class: messages", "class: mesages", "4:17: entities.line.class: must be messages or facts; did you mean `messages`?"),
        ("class: messages", "klass: messages", "4:10: entities.line.klass: unknown key `klass`"),
        ("column: talk}", "column: talk, visitor: v}", "entities.line.visitor: is not allowed here"),
        ("column: talk}", "column: talk, table: talk}", "entities.line: has the table of talk, too"),
        ("over: [done]", "over: []", "entities.talk.state.over: must not be empty"),
        ("chat: talk", "chat: talk\ndates: {type: timestamp}", "2:1: dates: needs `timezone` with the type timestamp"),
        ("column: talk}", "column: talk, files: {column: kind}}", "entities.line.files: needs `column` and `values`, or `entity`"),
        ("column: talk}", "column: talk, files: {values: [1]}}", "entities.line.files: needs `column` and `values`, or `entity`"),
        ("column: talk}", "column: talk, files: {column: kind, values: [1], entity: line}}", "entities.line.files: needs `column` and `values`, or `entity`"),
        ("column: talk}", "column: talk, files: {}}", "entities.line.files: needs `column` and `values`, or `entity`"),
        ("column: talk}", "column: talk, files: {entity: talk}}", "entities.line.files.entity: is not an entity with the parent line"),
        ("key: id, ", "key: id, rows: {column: kind, values: [talk]}, ", "entities.talk.rows: is not allowed here"),
        ("column: talk}", 'column: "talk\\0"}', "entities.line.column: must be a name of 1 to 255 characters"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_layout_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in LAYOUT
    problems = layout_problems(tmp_path, LAYOUT.replace(old, new, 1))
    assert any(problem in found for found in problems), problems
