"""The alert rules and the dashboard speak of figures that there are, and Prometheus's own tool takes them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from datetime import timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import ClientConnectionError, ClientSession
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from retentiond.adapters.metrics import Metrics
from retentiond.model.report import Backlog, QuarantineSummary, Tally, TargetStatus
from tests.support.closing_lines import not_run
from tests.support.fake_clock import NOON
from tests.support.ports import free_port
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

_MONITORING = files("retentiond") / "monitoring"
_TESTS = (_MONITORING / "alerts.test.yaml").read_text(encoding="utf-8")
_ALERTS = (_MONITORING / "alerts.yaml").read_text(encoding="utf-8")
_RULES: list[dict[str, Any]] = yaml.safe_load(_ALERTS)["groups"][0]["rules"]
_DASHBOARD: dict[str, Any] = json.loads((_MONITORING / "dashboard.json").read_text(encoding="utf-8"))
_EXPRESSIONS = [target["expr"] for panel in _DASHBOARD["panels"] for target in panel["targets"]]

_HOW = "Debian: apt install prometheus"


def _names(text: str) -> set[str]:
    return set(re.findall(r"\bretentiond_[a-z_]+\b", text))


@pytest.mark.parametrize(
    "text",
    [*(rule["expr"] for rule in _RULES), *_EXPRESSIONS],
)
def test_each_figure_that_is_asked_for_is_served(text: str) -> None:
    served = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics().registry.collect()
    }
    assert _names(text) <= served


def test_each_figure_that_is_served_is_shown_or_warned_of() -> None:
    served = {family.name for family in Metrics().registry.collect()}
    asked = {name.removesuffix("_total") for name in _names(_ALERTS + " ".join(_EXPRESSIONS))}
    # Items beside bytes, and passes beside the last success, are for questions of one's own.
    assert served - asked == {"retentiond_passes", "retentiond_purged_blobs", "retentiond_removed_items"}


def test_prometheus_takes_the_names_and_units_of_all_metrics(promtool: Callable[..., None]) -> None:
    metrics = Metrics()
    metrics.expect("media", ["remote"])
    metrics.stands(TargetStatus("media", "dendrite_media", ledger=True))
    promtool("check", "metrics", stdin=generate_latest(metrics.registry).decode())


@pytest.fixture
def promtool(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Prometheus's own tool; where there is none, that is one of the closing lines."""
    tool = shutil.which("promtool")
    if tool is None:
        not_run(request.config, "promtool on the alert rules", _HOW)
        pytest.skip(f"there is no promtool on this machine; {_HOW}")

    def run(*words: str, stdin: str = "") -> None:
        done = subprocess.run([tool, *words], capture_output=True, text=True, check=False, input=stdin)
        # `check metrics` prints its advice, too, and exits with 0 then.
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    return run


def test_prometheus_takes_every_expression(tmp_path: Path, promtool: Callable[..., None]) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(_EXPRESSIONS)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    (tmp_path / "alerts.yaml").write_text(_ALERTS)
    promtool("check", "rules", str(tmp_path / "panels.yaml"), str(tmp_path / "alerts.yaml"))


def test_the_first_event_fires_each_rule_and_a_target_that_is_well_fires_none(
    tmp_path: Path, promtool: Callable[..., None]
) -> None:
    (tmp_path / "alerts.yaml").write_text(_ALERTS)
    (tmp_path / "alerts.test.yaml").write_text(_TESTS)
    promtool("test", "rules", str(tmp_path / "alerts.test.yaml"))


def test_each_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = [test for group in yaml.safe_load(_TESTS)["tests"] for test in group["alert_rule_test"]]
    fires = {test["alertname"] for test in tests if "exp_alerts" in test}
    silent = {test["alertname"] for test in tests if "exp_alerts" not in test}
    assert fires == silent == {rule["alert"] for rule in _RULES}


async def test_each_counter_that_an_alert_watches_is_at_0_in_a_fresh_daemon(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path)
    try:
        quota = [{"match": {"origin": "remote"}, "max_size": "1GiB"}]
        daemon.configure(metrics={"listen": "127.0.0.1:0"}, media=media(quota=quota))
        daemon.begin()
        await daemon.until(lambda: daemon.told("READY=1"))
        address = daemon.entries("metrics_served")[0]["listen"]
        async with ClientSession() as client, client.get(f"http://{address}/metrics") as answer:
            page = await answer.text()
    finally:
        await daemon.close()
    shown = {family.name: family for family in text_string_to_metric_families(page)}
    names = {name.removesuffix("_total") for name in _names(_ALERTS + " ".join(_EXPRESSIONS))}
    assert names <= shown.keys()
    for counter in (family for family in shown.values() if family.type == "counter"):
        values = [sample.value for sample in counter.samples if sample.name.endswith("_total")]
        assert values, counter.name
        assert not any(values)
    labels = {tuple(sorted(sample.labels.items())) for family in shown.values() for sample in family.samples}
    assert {
        (("limit", "max_share"), ("target", "media")),
        (("limit", "busy"), ("target", "media")),
        (("kind", "not_moved"), ("target", "media")),
        (("policy", "remote"), ("target", "media")),
        (("policy", "quota"), ("target", "media")),
    } <= labels


_INTERVAL = 1
_STEP = 0.05


@pytest.fixture
async def prometheus(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Start a Prometheus that scrapes one address; return its own URL."""
    program = shutil.which("prometheus")
    if program is None:
        not_run(request.config, "the queries of the dashboard on a Prometheus", _HOW)
        pytest.skip(f"there is no prometheus on this machine; {_HOW}")
    started: list[asyncio.subprocess.Process] = []

    async def start(address: str) -> str:
        scrape = {"job_name": "retentiond", "static_configs": [{"targets": [address]}]}
        config = {"global": {"scrape_interval": f"{_INTERVAL}s"}, "scrape_configs": [scrape]}
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        words = [f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data"]
        command = [program, *words, f"--web.listen-address=127.0.0.1:{port}"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        await process.wait()


async def test_each_query_of_the_dashboard_finds_figures_of_a_real_daemon(
    tmp_path: Path, prometheus: Callable[[str], Awaitable[str]]
) -> None:
    daemon = RunningDaemon(tmp_path)
    store = daemon.stores["media"]
    began = NOON - timedelta(days=5)
    store.last_pass = {"started_at": began, "state": "finished"}
    quarantine = QuarantineSummary(2, {"quarantined": Tally(2, 70)}, None)
    backlog = Backlog(NOON, 1, 9, began)
    store.more = {"last_success": began, "quarantine": quarantine, "backlog": backlog}
    try:
        daemon.configure(http={"listen": "127.0.0.1:0"}, media=media())
        daemon.begin()
        await daemon.until(lambda: store.orders and not store.running and store.drawn)
        await daemon.clock.advance(60)
        url = await prometheus(daemon.entries("http_served")[0]["listen"])
        async with ClientSession(url) as client:
            # An increase has two scrapes.
            while not await _ask(client, "count_over_time(retentiond_problems[1h]) > 1"):
                await asyncio.sleep(_STEP)
            without = [
                text
                for text in _EXPRESSIONS
                if not await _ask(client, text.replace("$target", ".*").replace("$__rate_interval", "1m"))
            ]
        assert without == []
        assert await daemon.stop() == 0
    finally:
        await daemon.close()


async def _ask(client: ClientSession, text: str) -> list[Any]:
    """Return the series of a query; none while the server is starting."""
    try:
        answer = await client.get("/api/v1/query", params={"query": text})
    except ClientConnectionError:
        return []
    if answer.status == 503:
        return []
    document = await answer.json()
    assert document["status"] == "success", (text, document)
    series: list[Any] = document["data"]["result"]
    return series
