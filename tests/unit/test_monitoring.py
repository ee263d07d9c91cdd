"""The alerts and the dashboard that are shipped: about metrics that there are, and every alert with its test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdbclient.gateway import metrics as gateway
from pdbclient.sync.service import metrics as sync

MONITORING = Path(__file__).parents[2] / "puppet_conf_examples" / "monitoring"
RULES = yaml.safe_load((MONITORING / "pdbclient.rules.yml").read_text())
TESTS = yaml.safe_load((MONITORING / "pdbclient.rules.test.yml").read_text())
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
DECLARED = {each.name: each for each in (*gateway.METRICS, *sync.METRICS)}
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
# A metric, and the labels that it is chosen by.
CHOSEN = re.compile(r"\b(pdbclient_[a-z_]+|up)\b(?:\{([^}]*)\})?")
OF_PROMETHEUS = {"job", "instance", "le"}


def expressions() -> Iterator[str]:
    for rule in ALERTS.values():
        yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["expr"]
    for test in TESTS["tests"]:
        for series in test["input_series"]:
            yield series["series"]


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_what_is_asked_for_is_a_metric_with_these_labels(expression: str) -> None:
    found = CHOSEN.findall(expression)
    assert found
    for name, labels in found:
        if name == "up":
            continue
        declared = DECLARED.get(re.sub(r"_(total|bucket|count|sum)$", "", name)) or DECLARED.get(name)
        assert declared is not None, name
        chosen = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", labels))
        assert chosen <= {*declared.labels, *OF_PROMETHEUS}


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_test_in_which_it_fires_and_in_which_it_does_not_yet(name: str) -> None:
    cases: list[dict[str, Any]] = [
        case for test in TESTS["tests"] for case in test["alert_rule_test"] if case["alertname"] == name
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_bad_it_is_what_to_do_and_where_its_runbook_is(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    page = re.sub(r"(?<!^)(?=[A-Z])", "-", name.removeprefix("Pdbclient")).lower()
    assert rule["annotations"]["runbook"] == f"runbooks/{page}.html"


def test_each_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    """But for those that say another one in other words."""
    names = {re.sub(r"_(total|bucket)$", "", name) for each in expressions() for name, _ in CHOSEN.findall(each)}
    left = {name for name in DECLARED if name not in names}
    said = {"last_successful_sync_time", "last_failed_sync_time", "seconds_since_last_failed_sync"}
    said |= {"sync_has_failed_after_working", "entity_success_time", "record_transfer_duration"}
    assert left == {f"pdbclient_sync_{name}" for name in said} | {each.name for each in sync.DURATIONS.values()}


def test_the_panels_of_the_dashboard_lie_beside_each_other_and_ask_the_source_that_is_chosen() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
