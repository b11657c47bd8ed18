"""The alert rules and the dashboard speak of figures that there are, and Prometheus's own tool takes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from retentiond.adapters.metrics import Metrics
from tests.support.closing_lines import not_run
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.fixture
def promtool(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Prometheus's own tool; where there is none, that is one of the closing lines."""
    tool = shutil.which("promtool")
    if tool is None:
        not_run(request.config, "promtool on the alert rules", _HOW)
        pytest.skip(f"there is no promtool on this machine; {_HOW}")

    def run(*words: str) -> None:
        done = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

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
