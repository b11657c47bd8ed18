"""The export of a demo's store: a dump of the database, and a configuration to continue with."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import yaml

from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.config.media import MediaTarget
    from retentiond.demo.postgres import EmbeddedPostgres

_HEAD: Final = """\
# The demo's store. Load database.sql into an empty database of your own (psql -f), say which it is in
# DEMO_DATABASE (postgresql://...), and look: retentiond --config {path} plan
"""


async def export_demo(server: EmbeddedPostgres, database: str, directory: Path, config: MediaTarget) -> None:
    """Write `database.sql` and `config.yaml` next to the media; raise UnreachableError if the dump fails."""
    await _dump(server, database, directory / "database.sql")
    target = {
        "kind": config.kind,
        "database": "${DEMO_DATABASE}",
        "media_path": str(config.media_path),
        "server_name": list(config.server_name or ()),
        "settle": "0s",
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
    }
    path = directory / "config.yaml"
    text = yaml.safe_dump({"targets": {"media": target}}, sort_keys=False)
    path.write_text(_HEAD.format(path=path) + text, encoding="utf-8")


async def _dump(server: EmbeddedPostgres, database: str, path: Path) -> None:
    where = urlsplit(server.dsn(database))
    words = ["--no-owner", "--host", str(where.hostname), "--port", str(where.port)]
    words += ["--username", str(where.username), "--file", str(path), database]
    process = await asyncio.create_subprocess_exec(
        server.programs / "pg_dump",
        *words,
        # Not among the arguments, which every user of this machine can read.
        env={"PGPASSWORD": str(where.password), "PATH": os.defpath, "LC_ALL": "C"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise UnreachableError(
            f"pg_dump failed: {complaint.decode(errors='replace').strip()}; leave out --keep"
        )
