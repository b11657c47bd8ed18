"""The settings of a pass from a target's section: dendrite's file is read here, and the target's own keys win."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from retentiond.config.connection import password_of, to_url
from retentiond.config.dendrite_yaml import COMPONENTS, Component, DendriteConfig, Part, read_dendrite_config
from retentiond.config.media import MediaTarget
from retentiond.model.errors import UsageError
from retentiond.model.policy import Rules
from retentiond.model.quota import Quota


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """The databases and media directory of a target, as asyncpg's URLs and a path, and its policies.

    `server_names` are in lower case, and empty if they are not configured.
    """

    database: str = field(repr=False)
    databases: Mapping[Component, str] = field(repr=False)
    media_path: Path
    server_names: frozenset[str]
    rules: Rules
    protections: tuple[str, ...]
    quotas: tuple[Quota, ...]
    secret_files: tuple[Path, ...] = ()
    """dendrite's configuration, if a password is taken from it."""

    @property
    def sources(self) -> frozenset[str]:
        """The sources of mentions that policies and quotas ask about."""
        return self.rules.sources.union(*(quota.match.sources for quota in self.quotas))


def resolve(target: MediaTarget) -> MediaSettings:
    """Complete a target by dendrite's file, if it names one; raise ConfigError with that file's problems."""
    ours = _ours(target)
    dendrite = _dendrite(target, ours)
    database = ours.get("database") or _url(dendrite.database)
    media_path = target.media_path or dendrite.media_path
    if database is None or media_path is None:
        raise UsageError("a target needs `database` and `media_path`; set both, or `dendrite_config`")
    databases: dict[Component, str] = {
        component: ours.get(component) or _url(dendrite.databases.get(component)) or database
        for component in COMPONENTS
    }
    rules = target.rules(target.server_name or dendrite.server_names)
    taken = {database, *databases.values()} - set(ours.values())
    file = target.dendrite_config
    return MediaSettings(
        database,
        databases,
        media_path,
        rules.server_names,
        rules,
        target.protections,
        target.quotas(),
        (file,) if file is not None and any(map(password_of, taken)) else (),
    )


def _ours(target: MediaTarget) -> dict[Part, str]:
    """Return the databases that the target itself names."""
    named: dict[Part, SecretStr | None] = {
        "database": target.database or target.databases.media_api,
        "sync_api": target.databases.sync_api,
        "user_api": target.databases.user_api,
        "room_server": target.databases.room_server,
    }
    return {part: url for part, secret in named.items() if (url := _url(secret)) is not None}


def _dendrite(target: MediaTarget, ours: Mapping[Part, str]) -> DendriteConfig:
    if target.dendrite_config is None:
        return DendriteConfig(None, {}, None, ())
    # No table of the federation refers to media.
    known: set[Part] = {"federation_api", *ours}
    if target.media_path is not None:
        known.add("media_path")
    if target.server_name is not None:
        known.add("server_name")
    return read_dendrite_config(target.dendrite_config, known=known)


def _url(secret: SecretStr | None) -> str | None:
    return None if secret is None else to_url(secret.get_secret_value())
