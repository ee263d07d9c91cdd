"""Metrics, alerts and the dashboard with real programs: promtool, and a Prometheus that sees a real failover."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port

from ..faults.gateway import ask, submit
from ..soak import LONG, rounds
from .journal_gateway import JournalGateway
from .prometheus import MONITORING, RULES, Prometheus, promtool
from .test_sync import PRIMARY, REPLICA, ReconciledPair, events_until, sync_running

EXPORTED = quote(json.dumps(["and", ["=", "type", "File"], ["=", "exported", True]]))
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())


def test_promtool_finds_nothing_wrong_with_the_alerts_and_the_configuration() -> None:
    for kind, file in (("rules", RULES), ("config", MONITORING / "prometheus.yml")):
        checked = promtool("check", kind, file)
        assert checked.returncode == 0, checked.stdout
        assert "SUCCESS: 20 rules found" in checked.stdout


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    tested = promtool("test", "rules", RULES.with_name("pdbclient.rules.test.yml"))
    assert tested.returncode == 0, tested.stdout


def until(true: Callable[[], object], seconds: float, what: Callable[[], object] = lambda: "") -> None:
    """Wait for it, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


@contextmanager
def traffic(gateway: JournalGateway, lab: Lab) -> Iterator[None]:
    """A few requests of each kind a second, until the end of the block; every one of them is answered well."""
    over, answers = threading.Event(), list[int]()

    def work() -> None:
        number = 0
        while not over.wait(0.1):
            number += 1
            answers.append(submit(gateway.port, lab.client_tls, f"node{number % 20:02}").status)
            answers.append(ask(gateway.port, lab.client_tls, "/pdb/query/v4/nodes", timeout=60).status)
            resources = f"/pdb/query/v4/resources?query={EXPORTED}"
            answers.append(ask(gateway.port, lab.client_tls, resources, timeout=60).status)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert set(answers) == {200}


def check(daemon: str, port: int) -> subprocess.CompletedProcess[str]:
    """As Nagios runs it."""
    command = [sys.executable, "-m", "pdbclient", "check", daemon, "--port", str(port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def panels() -> dict[str, str]:
    """The queries of the dashboard as Grafana would send them, by where they are from."""
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }
    queries |= {each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]}
    return {name: text.replace("$instance", ".*").replace("$__rate_interval", "1m") for name, text in queries.items()}


def without_data(prometheus: Prometheus) -> list[str]:
    """The queries of the dashboard that show nothing now."""
    return [name for name, query in panels().items() if not prometheus.query(query)]


@pytest.mark.integration
@pytest.mark.soak
@pytest.mark.timeout(rounds(300, 900))
def test_a_failover_is_on_the_dashboard_and_its_alert_fires_and_ends(pair: Lab, tmp_path: Path) -> None:
    """In the short form the alerts do not wait, in the long one they are as they are shipped."""
    ports = {"pdbclient-gateway": free_port(), "pdbclient-sync": free_port()}
    due, wait = (None, 240.0) if LONG else ("1s", 30.0)
    site = ReconciledPair(pair, tmp_path)
    text = site.conf[REPLICA].read_text()
    site.conf[REPLICA].write_text(text.replace("sync: {", f"sync: {{\n  status_port: {ports['pdbclient-sync']}", 1))
    site.simple_facts(PRIMARY, "synced", site.ago(minutes=1), x=1)
    site.settle()
    with ExitStack() as stack:
        settings = {"gateway_status_port": ports["pdbclient-gateway"]}
        gateway = stack.enter_context(JournalGateway(pair, tmp_path, settings))
        events_until(stack.enter_context(sync_running(site, REPLICA)), "sync", "finished")
        stack.enter_context(traffic(gateway, pair))
        prometheus = stack.enter_context(Prometheus(tmp_path, ports, due=due))
        stack.callback(pair.fault, PRIMARY, "thaw")
        for port in ports.values():
            checked = promtool("check", "metrics", stdin=scraped(port))
            assert (checked.returncode, checked.stdout) == (0, "")
        until(lambda: prometheus.query('rate(pdbclient_gateway_requests_total{outcome="answered"}[10s]) > 0'), 30)
        assert prometheus.firing() == {}
        assert check("gateway", ports["pdbclient-gateway"]).returncode == 0
        assert check("sync", ports["pdbclient-sync"]).returncode == 0

        pair.fault(PRIMARY, "freeze")
        until(lambda: "PdbclientServerUnhealthy" in prometheus.firing(), wait, prometheus.firing)
        primary, replica = (server.url for server in gateway.config.server_urls)
        (alert,) = prometheus.firing()["PdbclientServerUnhealthy"]
        assert (alert["server"], alert["job"]) == (primary, "pdbclient-gateway")
        (event,) = prometheus.query('pdbclient_gateway_failovers_total{kind="query"} > 0')
        assert (event["metric"]["from"], event["metric"]["to"]) == (primary, replica)
        checked = check("gateway", ports["pdbclient-gateway"])
        assert (checked.returncode, primary in checked.stdout) == (1, True)
        until(lambda: not without_data(prometheus), 20, lambda: without_data(prometheus))
        instances = {f"127.0.0.1:{port}" for port in ports.values()}
        assert set(prometheus.values("instance", 'up{job=~"pdbclient-.*"}')) == instances

        pair.fault(PRIMARY, "thaw")
        until(lambda: "PdbclientServerUnhealthy" not in prometheus.firing(), 60, prometheus.firing)
        until(lambda: prometheus.query(f'pdbclient_gateway_failovers_total{{to="{primary}"}} > 0'), 30)
