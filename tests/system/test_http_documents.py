"""The documents that a real daemon serves are those that the commands print."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import ClientConnectionError, ClientSession
from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.real_program import Zygote
    from tests.support.store import DendriteStore


async def _printed(zygote: Zygote, config: Path, *words: str) -> Any:
    request: dict[str, Any] = {"words": ["--config", str(config), *words], "orders": [], "log": None}
    return (await zygote.fork(request | {"all_is_old": False}, config.parent).end()).document


async def _served(client: ClientSession, path: str) -> Any:
    """Return a document once it is there; the test's own time-out is the bound."""
    while True:
        try:
            answer = await client.get(path)
            text = await answer.text()
        except ClientConnectionError:
            text = ""
        else:
            if answer.status == 200:
                return json.loads(text) if answer.content_type == "application/json" else text
        await asyncio.sleep(0.05)


async def test_status_and_usage_are_those_of_the_commands_and_metrics_have_their_sums(
    database: str, media_path: Path, store: DendriteStore, tmp_path: Path, zygote: Zygote
) -> None:
    for number in range(6):
        await store.add(origin=f"s{number % 3}.test", age=timedelta(days=40 * number))
    await store.add(origin="here.test", user_id="@ann:here.test", age=timedelta(days=3))
    target = {
        "kind": "dendrite_media",
        "database": database,
        "media_path": str(media_path),
        "server_name": "here.test",
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
        "limits": {"max_share": 1.0, "max_missing_files": 1.0},
        "settle": "0s",
    }
    port = free_port()
    config = tmp_path / "config.yaml"
    http = {"listen": f"127.0.0.1:{port}"}
    config.write_text(yaml.safe_dump({"targets": {"media": target}, "http": http}))
    await _printed(zygote, config, "once", "--yes", "--json")
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "retentiond", "--config", str(config), "run", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            for by, top in (("server", "1"), ("user", "20"), ("type", "20"), ("file", "2")):
                printed = await _printed(zygote, config, "usage", "--by", by, "--top", top, "--json")
                assert await _served(client, f"/api/v1/usage?by={by}&top={top}") == printed, by
            # Until its first sweep has ended, the daemon has not the target.
            while await _served(client, "/api/v1/status") != await _printed(
                zygote, config, "status", "--json"
            ):
                await asyncio.sleep(0.05)
            rows = (await _served(client, "/api/v1/usage"))["usage"][0]["rows"]
            metrics = await _served(client, "/metrics")
            page = await _served(client, "/report")
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
        }
        assert samples["retentiond_stored_items"] == sum(row["items"] for row in rows) == 2
        assert samples["retentiond_stored_bytes"] == sum(row["bytes"] for row in rows)
        assert samples["retentiond_free_bytes"] > 0
        assert "<h2>media" in page
    finally:
        daemon.terminate()
        assert await daemon.wait() == 0
