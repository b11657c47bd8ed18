from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from retentiond.config.media import Limits, MediaTarget, Pace
from retentiond.config.policies import PolicyConfig, QuotaConfig
from retentiond.config.schema import Config
from retentiond.config.section import Section
from retentiond.model.match import Match
from retentiond.model.policy import Policy, Rules
from retentiond.model.protections import PROTECT_DEFAULT

TARGET: Mapping[str, Any] = {"kind": "dendrite_media", "dendrite_config": "/etc/dendrite/dendrite.yaml"}
QUOTA: dict[str, Any] = {"match": {"origin": "remote"}, "max_size": "1GiB"}
POLICY: Mapping[str, Any] = {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}


def target(**values: Any) -> MediaTarget:
    return MediaTarget.model_validate({**TARGET, **values})


def matching(**match: Any) -> Match:
    return PolicyConfig.model_validate({**POLICY, "match": match}).to_policy().match


def sections(section: type[BaseModel]) -> list[type[BaseModel]]:
    return [section, *(inner for child in section.__subclasses__() for inner in sections(child))]


def test_every_key_is_described() -> None:
    fields = {
        f"{section.__name__}.{key}": field.description
        for section in sections(Config.__mro__[1])
        if section.__module__.startswith("retentiond.config.")  # other files have formats of their own
        for key, field in section.model_fields.items()
    }
    assert len(fields) > 40
    assert [name for name, description in fields.items() if not description] == []


def test_the_defaults_are_those_of_the_documentation() -> None:
    media = target()
    assert (media.grace, media.settle) == (timedelta(hours=24), timedelta(minutes=10))
    assert media.policies == ()
    assert media.protect == PROTECT_DEFAULT
    assert {"profile_avatars", "room_state", "account_data", "invites"} <= set(PROTECT_DEFAULT)
    assert media.limits == Limits(max_share=0.5, max_items=1_000_000, max_missing_files=0.05)
    assert media.pace == Pace(batch=1000, concurrency=4, max_items_per_second=5000)
    assert media.create_index
    assert media.schedule is None


@pytest.mark.parametrize(
    ("keys", "accepts"),
    [
        ({}, set()),
        ({"encrypted_remote": "fetch_again"}, {"encrypted_remote"}),
        ({"delete_media_of_encrypted_rooms": True}, {"encrypted", "encrypted_remote"}),
    ],
)
def test_the_risk_of_encrypted_rooms_is_accepted_by_its_own_keys_alone(
    keys: dict[str, Any], accepts: set[str]
) -> None:
    match = {"unreferenced": True, "content_type": "application/octet-stream"}
    of_target = {name: value for name, value in keys.items() if name == "encrypted_remote"}
    of_rule = {name: value for name, value in keys.items() if name not in of_target}
    media = target(
        policies=[dict(POLICY) | of_rule | {"match": match}],
        quota=[QUOTA | of_rule | {"match": match}],
        **of_target,
    )
    assert media.rules([]).policies[0].match.accepts == media.quotas()[0].match.accepts == accepts


@pytest.mark.parametrize("section", [PolicyConfig, QuotaConfig])
def test_a_risk_that_the_match_does_not_have_is_not_accepted_in_silence(section: type[Section]) -> None:
    given = (QUOTA if section is QuotaConfig else dict(POLICY)) | {"delete_media_of_encrypted_rooms": True}
    with pytest.raises(ValidationError, match="needs `unreferenced` or `room` in the match"):
        section.model_validate(given)
    for match in ({"unreferenced": True}, {"room": "upgraded"}):
        section.model_validate(given | {"match": match})


def test_protections_are_reported_in_one_order_and_encryption_comes_last() -> None:
    joined = {"protect": ["room_state", "profile_avatars"], "messages_in": ["joined_rooms"]}
    named = ("profile_avatars", "room_state", "messages_in", "encrypted")
    assert target(**joined).protections == (*named, "encrypted_remote")
    assert target(**joined, encrypted_remote="fetch_again").protections == named


def test_targets_have_no_default() -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({})
    with pytest.raises(ValidationError):
        Config.model_validate({"targets": {}})


def test_a_policy_becomes_the_rule_that_decides() -> None:
    assert PolicyConfig.model_validate(POLICY).to_policy() == Policy(
        "remote", Match(origin="remote"), timedelta(days=30)
    )


def test_keep_forever_is_a_rule_without_an_age() -> None:
    assert PolicyConfig.model_validate({**POLICY, "keep": "forever"}).to_policy().keep is None


@pytest.mark.parametrize("keep", [None, "", "never", "Forever", 30, -1, True])
def test_a_policy_must_say_how_long_it_keeps(keep: object) -> None:
    with pytest.raises(ValidationError):
        PolicyConfig.model_validate({**POLICY, "keep": keep})
    with pytest.raises(ValidationError):
        PolicyConfig.model_validate({"name": "a", "match": {"origin": "remote"}})


@pytest.mark.parametrize("match", [{}, {"origin": None}, {"origin": None, "user": None}, None, [], "remote"])
def test_a_match_without_a_condition_is_refused(match: object) -> None:
    with pytest.raises(ValidationError):
        PolicyConfig.model_validate({**POLICY, "match": match})


def test_all_conditions_reach_the_rule() -> None:
    match = matching(
        origin="*.example.org",
        user="@a*:b",
        content_type="video/*",
        larger_than="20MiB",
        uploaded_before="2025-01-31",
        upload_name="*.mp4",
        room="!a:b",
        unreferenced=True,
    )
    assert None not in {getattr(match, name) for name in Match.__dataclass_fields__}
    assert match.larger_than == 20 * 1024**2
    assert str(match.uploaded_before) == "2025-01-31"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("origin", ""),
        ("origin", "Remote"),
        ("origin", "LOCAL"),
        ("origin", "a" * 1001),
        ("user", "alice"),
        ("content_type", "video"),
        ("larger_than", 20),
        ("larger_than", "20"),
        ("uploaded_before", "2025-02-30"),
        ("uploaded_before", "20250131"),
        ("uploaded_before", "2025-1-31"),
        ("uploaded_before", "2025-01-31T00:00:00"),
        ("uploaded_before", 1738281600),
        ("upload_name", ""),
        ("room", "left"),
        ("room", "!"),
        ("room", "!*:example.org"),
        ("room", "#a:example.org"),
        ("unreferenced", False),
        ("unreferenced", "yes"),
        ("orign", "remote"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        matching(**{key: value})


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "media"},
        {"dendrite_config": "dendrite.yaml"},
        {"dendrite_config": "/etc/../x"},
        {"media_path": "/a\0"},
        {"media_path": "media"},
        {"database": "nonsense"},
        {"databases": {"federation_api": "postgresql://h/d"}},
        {"database": "postgresql://h/d", "databases": {"media_api": "postgresql://h/d"}},
        {"server_name": "https://example.org"},
        {"server_name": "@alice:example.org/"},
        {"server_name": ""},
        {"server_name": []},
        {"server_name": ["example.org", "a b"]},
        {"grace": 24},
        {"grace": "-1h"},
        {"policies": [POLICY, POLICY]},
        {"policies": [{**POLICY, "name": ""}]},
        {"policies": [{**POLICY, "since": "read"}]},
        {"policies": [{**POLICY, "remove": "thumbnail"}]},
        {"policies": POLICY},
        {"protect": ["room_state", "room_state"]},
        {"protect": ["rooms"]},
        {"protect": "room_state"},
        {"messages_in": ["all_rooms"]},
        {"messages_in": ["joined_rooms", "joined_rooms"]},
        {"limits": {"max_share": 1.1}},
        {"limits": {"max_share": -0.1}},
        {"limits": {"max_share": True}},
        {"limits": {"max_share": float("nan")}},
        {"limits": {"max_items": 0}},
        {"limits": {"max_items": 1.5}},
        {"limits": {"max_missing_files": 2}},
        {"pace": {"batch": 0}},
        {"pace": {"batch": 10_001}},
        {"pace": {"batch": True}},
        {"pace": {"concurrency": 65}},
        {"pace": {"concurrency": 0}},
        {"pace": {"max_items_per_second": 0}},
        {"create_index": "maybe"},
        {"since_fallback": "accessed"},
        {"quota": [{"match": {"origin": "remote"}}]},
        {"quota": [{"max_size": "1GiB"}]},
        {"quota": [QUOTA | {"match": {}}]},
        {"quota": [QUOTA | {"max_size": 1024}]},
        {"quota": [QUOTA | {"low_water": 0}]},
        {"quota": [QUOTA | {"low_water": 1.5}]},
        {"quota": [QUOTA | {"every": "0s"}]},
        {"quota": [QUOTA | {"evict": "youngest"}]},
        {"quota": [QUOTA | {"shorten_grace": True}]},
        {"quota": [QUOTA | {"name": "remote"}], "policies": [POLICY]},
        {"quota": [QUOTA, QUOTA | {"name": "quota"}]},
        {"audit": {"every": "0s"}},
        {"audit": {"cron": "30 3 * * *"}},
    ],
)
def test_a_target_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        target(**values)


def test_quotas_have_the_values_that_are_shown_and_names_by_their_place() -> None:
    first, second = target(quota=[QUOTA, QUOTA | {"min_free_disk": "1GiB", "shorten_grace": True}]).quotas()
    assert (first.name, second.name) == ("quota", "quota 2")
    assert (first.max_size, first.low_water, first.evict) == (2**30, 0.9, "least_recently_accessed")
    assert (first.min_age, first.shorten_grace) == (timedelta(days=1), False)
    assert (second.min_free_disk, second.shorten_grace) == (2**30, True)


def test_what_is_wrong_between_keys_is_told_beside_what_is_wrong_in_them() -> None:
    with pytest.raises(ValidationError) as caught:
        MediaTarget.model_validate(
            {
                "kind": "dendrite_media",
                "grace": 24,
                "schedule": {"cron": "x", "every": "y"},
                "policies": [POLICY, {**POLICY, "keep": 1}],
            }
        )
    assert {error["loc"] for error in caught.value.errors()} == {
        (),
        ("grace",),
        ("schedule", "cron"),
        ("schedule", "every"),
        ("policies", 1, "keep"),
        ("policies", 1, "name"),
    }


def test_an_error_of_the_schema_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        target(database="mysql://u:hunter2@h/d")
    assert "hunter2" not in str(caught.value)


def test_a_configuration_cannot_be_changed() -> None:
    media = target()
    with pytest.raises(ValidationError):
        media.grace = timedelta(0)  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["example.org", "localhost", "example.org:8448", "127.0.0.13:8449", "[::1]:8448"]
)
def test_a_server_name_may_hold_a_port_or_an_address(name: str) -> None:
    assert target(server_name=name).server_name == (name,)


def test_rules_have_the_policies_in_order_and_names_in_small_letters() -> None:
    second = {**POLICY, "name": "local", "match": {"origin": "local"}}
    rules = target(policies=[POLICY, second]).rules(["Example.ORG", "b"])
    assert isinstance(rules, Rules)
    assert [policy.name for policy in rules.policies] == ["remote", "local"]
    assert rules.server_names == frozenset({"example.org", "b"})


def test_a_target_may_be_made_of_parts_that_are_checked_already() -> None:
    policies = (PolicyConfig.model_validate(POLICY), PolicyConfig.model_validate({**POLICY, "name": "b"}))
    assert target(policies=policies).policies == policies
    with pytest.raises(ValidationError, match="earlier policy"):
        target(policies=(policies[0], policies[0]))
