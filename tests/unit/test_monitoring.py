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

from retentiond.adapters.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

_MONITORING = files("retentiond") / "monitoring"
_ALERTS = (_MONITORING / "alerts.yaml").read_text(encoding="utf-8")
_DASHBOARD: dict[str, Any] = json.loads((_MONITORING / "dashboard.json").read_text(encoding="utf-8"))
_EXPRESSIONS = [target["expr"] for panel in _DASHBOARD["panels"] for target in panel["targets"]]

with_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="there is no promtool on this machine (Debian: apt install prometheus)",
)


def _names(text: str) -> set[str]:
    return set(re.findall(r"\bretentiond_[a-z_]+\b", text))


@pytest.mark.parametrize(
    "text",
    [*(rule["expr"] for rule in yaml.safe_load(_ALERTS)["groups"][0]["rules"]), *_EXPRESSIONS],
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


def _promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@with_promtool
def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(_EXPRESSIONS)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    (tmp_path / "alerts.yaml").write_text(_ALERTS)
    _promtool("check", "rules", str(tmp_path / "panels.yaml"), str(tmp_path / "alerts.yaml"))


@with_promtool
def test_a_stalled_purge_is_warned_of_and_one_that_works_is_not(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(_ALERTS)
    days = 10
    hours = f"x{days * 24}"
    # One target stopped at the beginning; the other has a success and a sweep each hour.
    series = [
        {"series": 'retentiond_last_success_timestamp_seconds{target="stalled"}', "values": f"0+0{hours}"},
        {"series": 'retentiond_last_success_timestamp_seconds{target="works"}', "values": f"0+3600{hours}"},
        {"series": 'retentiond_overdue_since_timestamp_seconds{target="stalled"}', "values": f"1+0{hours}"},
        {"series": 'retentiond_overdue_since_timestamp_seconds{target="works"}', "values": f"0+0{hours}"},
        {"series": 'retentiond_last_sweep_timestamp_seconds{target="works"}', "values": f"0+3600{hours}"},
        {"series": 'retentiond_last_sweep_timestamp_seconds{target="stalled"}', "values": f"0+0{hours}"},
    ]
    warned = [
        {
            "eval_time": f"{days}d",
            "alertname": name,
            "exp_alerts": [{"exp_labels": {"target": "stalled", **labels}}],
        }
        for name, labels in (
            ("RetentiondNoSuccess", {"severity": "warning"}),
            ("RetentiondOverdue", {"severity": "warning"}),
            ("RetentiondSweepsStopped", {"severity": "critical"}),
        )
    ]
    for expected in warned:
        rule = next(
            rule
            for rule in yaml.safe_load(_ALERTS)["groups"][0]["rules"]
            if rule["alert"] == expected["alertname"]
        )
        told = {
            key: text.replace("{{ $labels.target }}", "stalled") for key, text in rule["annotations"].items()
        }
        expected["exp_alerts"][0]["exp_annotations"] = told  # type: ignore[index]
    test = {
        "rule_files": [str(tmp_path / "alerts.yaml")],
        "evaluation_interval": "1h",
        "tests": [{"interval": "1h", "input_series": series, "alert_rule_test": warned}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    _promtool("test", "rules", str(tmp_path / "test.yaml"))
