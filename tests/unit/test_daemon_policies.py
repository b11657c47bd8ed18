"""Policies that a reload shortened, and what holds until they take effect."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from retentiond.config.chats import ChatTarget
from retentiond.config.media import MediaTarget
from retentiond.config.resolve import resolve
from retentiond.daemon.policies import EffectivePolicies
from retentiond.daemon.settings import TargetSettings
from retentiond.targets.settings import resolve_target
from tests.support.fake_clock import NOON
from tests.support.media_target import as_media
from tests.support.running_daemon import media

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def settings(**keeps: str) -> TargetSettings:
    policies: list[dict[str, Any]] = [
        {"name": name, "match": {"origin": name}, "keep": keep} for name, keep in keeps.items()
    ]
    target = MediaTarget.model_validate(media(policies=policies))
    return TargetSettings(target, resolve(target))


def keeps(policies: EffectivePolicies, hours: float) -> dict[str, str]:
    keeps = policies.in_force(NOON + hours * HOUR).config.keeps
    return {name: "forever" if keep is None else f"{keep.days}d" for name, keep in keeps.items()}


def test_a_shortened_policy_waits_for_a_day() -> None:
    policies = EffectivePolicies(settings(remote="30d")).reloaded(settings(remote="7d"), NOON)
    assert keeps(policies, 0) == {"remote": "30d"}
    assert keeps(policies, 23.9) == {"remote": "30d"}
    assert keeps(policies, 24) == {"remote": "7d"}


def test_forever_is_longer_than_any_time() -> None:
    policies = EffectivePolicies(settings(remote="forever")).reloaded(settings(remote="365d"), NOON)
    assert keeps(policies, 23) == {"remote": "forever"}


def test_a_lengthened_policy_takes_effect_at_once() -> None:
    policies = EffectivePolicies(settings(remote="7d", local="30d")).reloaded(
        settings(remote="30d", local="forever"), NOON
    )
    assert keeps(policies, 0) == {"remote": "30d", "local": "forever"}
    assert policies.deferred == ()


def test_only_the_shortened_policy_waits() -> None:
    policies = EffectivePolicies(settings(remote="30d", local="30d")).reloaded(
        settings(remote="7d", local="60d"), NOON
    )
    assert keeps(policies, 1) == {"remote": "30d", "local": "60d"}


def test_a_reload_that_changes_nothing_does_not_begin_the_wait_anew() -> None:
    policies = EffectivePolicies(settings(remote="30d")).reloaded(settings(remote="7d"), NOON)
    policies = policies.reloaded(settings(remote="7d"), NOON + 20 * HOUR)
    assert keeps(policies, 23) == {"remote": "30d"}
    assert keeps(policies, 24) == {"remote": "7d"}


def test_a_policy_that_is_shortened_again_waits_anew_with_what_is_in_force() -> None:
    policies = EffectivePolicies(settings(remote="30d")).reloaded(settings(remote="7d"), NOON)
    policies = policies.reloaded(settings(remote="3d"), NOON + HOUR)
    assert keeps(policies, 24.5) == {"remote": "30d"}
    assert keeps(policies, 25) == {"remote": "3d"}


def test_a_slip_that_is_mended_leaves_nothing_behind() -> None:
    before = EffectivePolicies(settings(remote="30d"))
    assert (
        before.reloaded(settings(remote="1d"), NOON).reloaded(settings(remote="30d"), NOON + HOUR) == before
    )


def test_a_slip_that_is_half_mended_still_waits() -> None:
    policies = EffectivePolicies(settings(remote="30d")).reloaded(settings(remote="1d"), NOON)
    policies = policies.reloaded(settings(remote="20d"), NOON + HOUR)
    assert keeps(policies, 2) == {"remote": "30d"}
    assert keeps(policies, 24) == {"remote": "20d"}


def test_once_the_wait_is_over_a_reload_does_not_bring_it_back() -> None:
    policies = EffectivePolicies(settings(remote="30d")).reloaded(settings(remote="7d"), NOON)
    policies = policies.reloaded(settings(remote="7d"), NOON + 2 * DAY)
    assert policies.deferred == ()
    assert keeps(policies, 48) == {"remote": "7d"}


def test_everything_else_of_a_reload_holds_at_once() -> None:
    target = MediaTarget.model_validate(
        media(grace="1h", policies=[{"name": "remote", "match": {"origin": "remote"}, "keep": "7d"}])
    )
    policies = EffectivePolicies(settings(remote="30d")).reloaded(
        TargetSettings(target, resolve(target)), NOON
    )
    assert as_media(policies.in_force(NOON).config).grace == HOUR


def renamed(name: str, keep: str, origin: str = "remote") -> TargetSettings:
    policy = {"name": name, "match": {"origin": origin}, "keep": keep}
    target = MediaTarget.model_validate(media(policies=[policy]))
    return TargetSettings(target, resolve(target))


def test_a_policy_that_is_shortened_under_a_new_name_waits_all_the_same() -> None:
    policies = EffectivePolicies(renamed("remote-30d", "30d")).reloaded(renamed("remote-7d", "7d"), NOON)
    assert keeps(policies, 23) == {"remote-7d": "30d"}
    assert keeps(policies, 24) == {"remote-7d": "7d"}


def test_a_new_name_does_not_end_the_wait() -> None:
    policies = EffectivePolicies(renamed("a", "30d")).reloaded(renamed("a", "7d"), NOON)
    policies = policies.reloaded(renamed("b", "7d"), NOON + HOUR)
    assert keeps(policies, 23) == {"b": "30d"}
    assert keeps(policies, 24) == {"b": "7d"}


def test_a_new_policy_with_a_match_of_its_own_waits_for_nothing() -> None:
    policies = EffectivePolicies(renamed("remote", "30d")).reloaded(renamed("local", "7d", "local"), NOON)
    assert keeps(policies, 0) == {"local": "7d"}


def test_an_accounts_chats_that_a_reload_lets_go_sooner_wait_for_a_day_too() -> None:
    def chats(keep: str) -> TargetSettings:
        given = {
            "kind": "chat_database",
            "database": "postgresql://nowhere/webim",
            "accounts": {"testcom": {"schema": "pro", "keep": keep}},
        }
        target = ChatTarget.model_validate(given)
        return TargetSettings(target, resolve_target(target))

    policies = EffectivePolicies(chats("500d")).reloaded(chats("400d"), NOON)
    assert (keeps(policies, 23), keeps(policies, 25)) == ({"testcom": "500d"}, {"testcom": "400d"})
