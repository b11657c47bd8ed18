"""The commented example: every key with its meaning, generated from the schema, so that both agree."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from retentiond.config.chats import ChatTarget
from retentiond.config.json_schema import FILE
from retentiond.config.media import Databases, MediaTarget
from retentiond.config.policies import QuotaConfig
from retentiond.config.rooms import RoomTarget
from retentiond.config.schema import KINDS, Config, check_kinds
from retentiond.config.units import format_duration

_WIDTH: Final = 96
_TEXT: Final = "tag:yaml.org,2002:str"
_CLOCK: Final = re.compile(r"[0-9]+:[0-9]+", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./-]*(?::[A-Za-z0-9_.-]+)*", re.ASCII)

# What is live; all else is there as a comment, `#key: value`, with its default or an example.
_LIVE: Final[Mapping[str, Mapping[str, Any]]] = {
    "dendrite_media": {
        "media": {
            "kind": "dendrite_media",
            "dendrite_config": "/etc/dendrite/dendrite.yaml",
            "schedule": {"cron": "30 3 * * *", "jitter": "5m"},
            "grace": "24h",
            "settle": "10m",
            "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
        }
    },
    "dendrite_rooms": {
        "rooms": {
            "kind": "dendrite_rooms",
            "dendrite_config": "/etc/dendrite/dendrite.yaml",
            "admin_api": {"url": "http://localhost:8008", "token": "credential:dendrite_admin"},
            "policies": [{"name": "left", "match": {"left_by_all": True}, "keep": "90d"}],
        }
    },
    # Without a `keep` and a schedule: chats are purged only by a command.
    "chat_database": {
        "chats": {
            "kind": "chat_database",
            "database": "postgresql://retentiond@/webim?host=/run/postgresql",
            "layout": "webim",
            "accounts": {"testcom": {"schema": "pro"}},
        }
    },
}
check_kinds(_LIVE, "config/example.py: _LIVE")
_CHATS: Final[Mapping[str, Any]] = {
    "kind": "chat_database",
    "database": "postgresql://webim@localhost/webim",
    "schedule": {"cron": "0 4 * * 0"},
    "accounts": {"testcom": {"schema": "pro", "keep": "400d"}},
}
_ROOMS: Final[Mapping[str, Any]] = {
    **_LIVE["dendrite_rooms"]["rooms"],
    "schedule": {"cron": "30 4 * * *"},
}
_OTHER_KINDS: Final[tuple[tuple[str, str, type[BaseModel], Mapping[str, Any]], ...]] = (
    (
        "The rooms that no user of this server is in. A purge cannot be undone. A target of this kind has other keys:",
        "rooms",
        RoomTarget,
        _ROOMS,
    ),
    (
        "The chats of a live-chat product. A target of this kind has other keys:",
        "chats",
        ChatTarget,
        _CHATS,
    ),
)
_OTHER_POLICIES: Final = (
    {"name": "local-bots", "match": {"origin": "local", "user": "@bot-*:example.org"}, "keep": "90d"},
    {"name": "left-rooms", "match": {"origin": "local", "room": "no_local_members"}, "keep": "90d"},
    {"name": "unreferenced", "match": {"origin": "local", "unreferenced": True}, "keep": "90d"},
    {"name": "local", "match": {"origin": "local"}, "keep": "365d"},
)
_STRICTER_POLICY: Final = {
    "name": "big-video",
    "match": {"origin": "remote", "content_type": "video/*", "larger_than": "20MiB"},
    "keep": "7d",
}
_MORE_POLICIES: Final[Mapping[type[BaseModel], tuple[Sequence[Mapping[str, Any]], ...]]] = {
    MediaTarget: ((_STRICTER_POLICY,), _OTHER_POLICIES),
    RoomTarget: (({"name": "upgraded", "match": {"upgraded": True}, "keep": "30d"},), ()),
}
"""Policies that stand as comments before and after the live ones."""
_QUOTA: Final = {"match": {"origin": "remote"}, "max_size": "50GiB", "min_free_disk": "10GiB"}
# Another name for `database`.
_NOT_SHOWN: Final = frozenset({(Databases, "media_api")})
_HEAD: Final = f"""\
# yaml-language-server: $schema={FILE}
#
# The configuration of retentiond. The default path is /etc/retentiond/config.yaml; --config or
# $RETENTIOND_CONFIG names another.
#
# A line `#key: value` is a key that is not set, with its default or with an example. Times and
# sizes need a unit: 30d, 24h, 10m, 20MiB. `retentiond check-config` finds errors in this file.
# `retentiond plan` shows what a pass would delete, and changes nothing.
"""


def example_config(kind: str = "dendrite_media", values: Mapping[str, Any] | None = None) -> str:
    """Return the example for a kind of target; for media it is the text of `config.example.yaml`.

    `values` replace keys of its target.
    """
    live = {name: {**keys, **(values or {})} for name, keys in _LIVE[kind].items()}
    return _HEAD + "".join(f"{line}\n" for line in _section(Config, {"targets": live}))


def _section(section: type[BaseModel], live: Mapping[str, Any]) -> Iterator[str]:
    """Write a section's keys, each below its description."""
    for name, field in section.model_fields.items():
        key = field.alias or name
        if (section, key) in _NOT_SHOWN:
            continue
        if _is_roomy(section):
            yield ""
        yield from _prose(field.description or "")
        if key == "quota":
            yield from _quotas()
        elif key not in live:
            yield from ("#" + line for line in _key(key, field, _all_of(field)))
        elif key == "policies":
            yield from _policies(live[key], section)
        else:
            yield from _key(key, field, live[key])


def _key(key: str, field: FieldInfo, value: Any) -> Iterator[str]:
    inner = _section_of(field.annotation)
    if inner is None:
        yield f"{key}: {_flow(value)}"
        return
    yield f"{key}:"
    if get_origin(field.annotation) is not dict:
        yield from _indented(_section(inner, value))
        return
    for place, (name, one) in enumerate(value.items()):
        if place and "kind" not in one:
            # The comments are above the keys of the first.
            yield f"  {_flow(name)}: {_flow(one)}"
            continue
        yield f"  {_flow(name)}:"
        yield from _indented(_indented(_section(KINDS.get(one.get("kind"), inner), one)))
    if any(KINDS.get(one.get("kind")) is MediaTarget for one in value.values()):
        for words, name, section, keys in _OTHER_KINDS:
            yield ""
            yield from _indented(_prose(words))
            lines = _indented(line for line in _section(section, keys) if line)
            yield from _indented(f"#{line}" for line in (f"{name}:", *lines))


def _policies(live: Sequence[Mapping[str, Any]], target: type[BaseModel]) -> Iterator[str]:
    yield from _prose("The keys of a policy; `match` has at least one condition:")
    policy_section = _section_of(target.model_fields["policies"].annotation)
    assert policy_section is not None  # noqa: S101 - a key of this name holds sections
    match_section = _section_of(policy_section.model_fields["match"].annotation)
    assert match_section is not None  # noqa: S101 - so does this one
    for section, prefix in ((policy_section, ""), (match_section, "match: ")):
        for key, field in section.model_fields.items():
            if key != "match":
                yield from _prose(f"{prefix}{key}: {field.description}")
    before, after = _MORE_POLICIES.get(target, ((), ()))
    yield "policies:"
    yield from (f"  #- {_flow(policy)}" for policy in before)
    yield from (f"  - {_flow(policy)}" for policy in live)
    yield from (f"  #- {_flow(policy)}" for policy in after)


def _quotas() -> Iterator[str]:
    yield from _prose("The keys of a quota; `match` has the conditions of a policy:")
    for key, field in QuotaConfig.model_fields.items():
        if key != "match":
            yield from _prose(f"{key}: {field.description}")
    yield "#quota:"
    yield f"#  - {_flow(_QUOTA)}"


def _all_of(field: FieldInfo) -> Any:
    """Return the shown value of an unset key: its default, or an example; of a section, each of its keys'."""
    inner = _section_of(field.annotation)
    if inner is not None:
        return {
            key: _all_of(one) for key, one in inner.model_fields.items() if (inner, key) not in _NOT_SHOWN
        }
    unset = field.is_required() or not field.default
    return field.examples[0] if field.examples and unset else field.default


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a key holds, alone, optional or by name, the first of several; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for kind in get_args(annotation) if (inner := _section_of(kind))), None)


def _is_roomy(section: type[BaseModel]) -> bool:
    return any(_section_of(field.annotation) for field in section.model_fields.values())


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _indented(lines: Iterator[str]) -> Iterator[str]:
    yield from (f"  {line}" if line else line for line in lines)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, timedelta):
        return format_duration(value)
    # YAML 1.1 reads 22:00 as a number of minutes, and `on`, 17 and 2025-01-31 as other types.
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _CLOCK.fullmatch(value) and _is_text(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_text(value: str) -> bool:
    node = yaml.compose(value, Loader=yaml.SafeLoader)
    return node is not None and node.tag == _TEXT
