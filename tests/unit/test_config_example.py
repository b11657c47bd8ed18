import re
from datetime import timedelta
from pathlib import Path

import pytest

from retentiond.config.chats import ChatLimits, ChatPace, ChatTarget, Floor
from retentiond.config.example import example_config
from retentiond.config.load import load_config
from retentiond.config.media import Databases, Limits, Pace
from retentiond.config.schema import KINDS, Config, Logging, Records
from tests.support.media_target import media_target

SHIPPED = Path(__file__).parents[2] / "config.example.yaml"


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    (tmp_path / "dendrite_admin").write_text("a-token")
    (tmp_path / "ping").write_text("https://ping.example.org/uuid")
    (tmp_path / "hook").write_text("Bearer token")
    (tmp_path / "http").write_text("0123456789abcdef")
    return load_config(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_the_shipped_example_is_the_one_that_is_printed() -> None:
    assert SHIPPED.read_bytes() == example_config().encode()


def test_only_remote_media_of_thirty_days_go_by_the_example(tmp_path: Path) -> None:
    config = loaded(tmp_path, example_config())
    (name,) = config.targets
    assert name == "media"
    (policy,) = media_target(config).policies
    assert (policy.name, policy.keep) == ("remote", timedelta(days=30))
    assert policy.match.model_dump(exclude_none=True) == {"origin": "remote"}


def test_the_example_sets_what_a_beginner_needs_and_leaves_the_rest_to_the_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, example_config())
    live = media_target(config).model_fields_set
    assert live == {"kind", "dendrite_config", "schedule", "grace", "settle", "policies"}
    assert config.model_fields_set == {"targets"}


def uncommented(text: str) -> str:
    """Make every `#key: value` live, but for what excludes another."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("#every:")]
    return "\n".join(re.sub(r"^(\s*)#(?=\S|  )", r"\1", line) for line in lines)


def test_every_comment_of_the_example_is_right_once_it_is_live(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("postgresql://dendrite@localhost/dendrite")
    config = loaded(tmp_path, uncommented(example_config()))
    media = media_target(config)
    names = ["big-video", "remote", "local-bots", "left-rooms", "unreferenced", "local"]
    assert [policy.name for policy in media.policies] == names
    assert config.model_fields_set == set(Config.model_fields)
    assert media.model_fields_set == set(type(media).model_fields)


def test_what_the_example_shows_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("postgresql://dendrite@localhost/dendrite")
    config = loaded(tmp_path, uncommented(example_config()))
    media, plain = media_target(config), media_target(loaded(tmp_path, example_config()))
    assert (media.limits, media.pace) == (Limits(), Pace())
    assert (config.records, config.logging) == (Records(), Logging())
    assert (media.protect, media.create_index) == (plain.protect, plain.create_index)
    assert media.databases != Databases()


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_no_wider_than_the_code(kind: str) -> None:
    assert max(map(len, example_config(kind).splitlines())) <= 110


def chat_target(config: Config) -> ChatTarget:
    (target,) = config.targets.values()
    assert isinstance(target, ChatTarget)
    return target


def test_the_example_for_chats_is_valid_as_printed_and_purges_nothing_by_schedule(tmp_path: Path) -> None:
    target = chat_target(loaded(tmp_path, example_config("chat_database")))
    assert target.model_fields_set == {"kind", "database", "layout", "accounts"}
    assert target.keeps == {"testcom": None}
    assert target.schedule is None


def test_every_comment_of_the_example_for_chats_is_right_once_it_is_live(tmp_path: Path) -> None:
    for name in ("clickhouse", "elasticsearch"):
        (tmp_path / name).write_text("secret")
    # Each excludes another.
    text = re.sub(r"(?m)^ +#  (every|api_key): .*\n", "", example_config("chat_database"))
    target = chat_target(loaded(tmp_path, uncommented(text)))
    assert target.model_fields_set == set(ChatTarget.model_fields)
    assert (target.floor, target.limits, target.pace) == (Floor(), ChatLimits(), ChatPace())
