"""Dockerfile, compose.yaml and their page, as texts; tests/system/test_containers.py builds and runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from retentiond.cli.app import VERBS

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
PAGE: Final = (ROOT / "docs/containers.md").read_text()
EXTRAS: Final = ("chats", "notify")


def instruction(name: str) -> list[str]:
    """Return the arguments of each instruction of this name."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def settings_of(text: str) -> dict[str, str]:
    """Return the variables of a compose file with their defaults."""
    return dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))


def locked(name: str) -> set[str]:
    """Return the packages of a lock file with their versions and hashes, one text each."""
    text = (ROOT / name).read_text().partition(f"-o {name}\n")[2]
    return set(re.split(r"\n(?=[A-Za-z])", text.strip()))


@pytest.mark.parametrize("service", ["retentiond", "retentiond-once"])
def test_a_service_has_the_paths_of_dendrites_container_and_writes_nothing_else(service: str) -> None:
    made = COMPOSE["services"][service]
    volumes = [str(volume).replace(":-", "=").split(":") for volume in made["volumes"]]
    # The working directory of dendrite's image, and the media directory of its generated configuration.
    assert [volume[1] for volume in volumes] == ["/etc/dendrite", "/var/dendrite/media"]
    assert made["environment"]["RETENTIOND_CONFIG"].startswith("/etc/dendrite/")
    assert made["read_only"] is True
    # podman gives capabilities that are added to users other than root, too.
    assert (made["cap_drop"], made.get("cap_add")) == (["ALL"], None)
    assert made["networks"] == list(COMPOSE["networks"])
    assert settings_of(made["volumes"][1])["DENDRITE_MEDIA"] in COMPOSE["volumes"]
    # A daemon and the commands beside it are one host: `hosts` in the configuration is for both.
    assert settings_of(made["hostname"]) == {"RETENTIOND_HOSTNAME": "retentiond"}
    assert [name for name in made["environment"] if "PASSWORD" in name] == []


def test_only_a_single_command_may_write_the_configuration_and_none_is_started_with_the_others() -> None:
    daemon, once = (COMPOSE["services"][name] for name in ("retentiond", "retentiond-once"))
    assert daemon["volumes"][0].endswith(":/etc/dendrite:ro")
    assert once["volumes"][0].endswith(":/etc/dendrite")
    assert once["profiles"] == ["once"]
    assert "profiles" not in daemon


def test_the_daemon_has_as_much_time_to_stop_as_in_the_systemd_unit() -> None:
    unit = (ROOT / "systemd/retentiond.service").read_text()
    assert f"TimeoutStopSec={COMPOSE['services']['retentiond']['stop_grace_period'][:-1]}\n" in unit


def test_the_page_has_each_variable_of_the_compose_file_with_its_default() -> None:
    named = dict(re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]+)`? \|", PAGE, re.MULTILINE))
    defaults = settings_of((ROOT / "compose.yaml").read_text())
    assert named == {name: default or "none" for name, default in defaults.items()}


def test_every_command_that_the_image_and_its_page_run_exists() -> None:
    (entry,), (command,), (health,) = (
        [json.loads(words) for words in instruction(name)]
        for name in ("ENTRYPOINT", "CMD", r"HEALTHCHECK .*CMD")
    )
    assert entry[-1] == health[0] == "retentiond"
    texts = PAGE + (ROOT / "compose.yaml").read_text() + (ROOT / "docs/timers.md").read_text()
    typed = re.findall(
        r"(?:--rm (?:-T )?retentiond-once|exec retentiond retentiond|localhost/retentiond) (?:--quiet )?([a-z-]+)",
        texts,
    )
    assert len(typed) > 5
    assert {*command, health[1], *typed} <= VERBS.keys()


def test_the_build_context_has_everything_that_the_dockerfile_copies() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [words.split()[:-1] for words in instruction("COPY") if not words.startswith("--from")]
    assert copied
    assert [name for names in copied for name in names if name not in kept] == []
    assert [name for name in kept if not list(ROOT.glob(name))] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_optional_packages_are_locked_and_hashed_with_the_versions_of_the_others(extra: str) -> None:
    assert f"`{extra}`" in PAGE
    base, more = locked("requirements-hashed.lock"), locked(f"requirements-{extra}-hashed.lock")
    # The first word of an entry is name==version; what follows is its condition, and its hashes.
    assert {one.split()[0] for one in base} < {one.split()[0] for one in more}
    assert [one for one in more if "--hash=sha256:" not in one] == []
    assert "://" not in "".join(more)


def test_no_user_of_the_image_is_root_and_its_signals_and_processes_have_an_init() -> None:
    (user,) = instruction("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert instruction("ENTRYPOINT")[0].startswith('["tini", "--",')
