"""The status pages in a real browser, during a real failover and a real outage: what they say is what happens."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from pdbclient.observe.status_client import ask_for_pass

from ..browser import Browser
from ..faults.gateway import ask, submit
from .journal_gateway import JournalGateway
from .test_sync import PRIMARY, REPLICA, ReconciledPair, events_until, sync_running

pytestmark = pytest.mark.integration

SHOTS = os.environ.get("PDBCLIENT_SHOTS")
"""Where to leave pictures, for those who want to look at them."""


def document(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        return dict(json.load(answer))


def shoot(browser: Browser, name: str) -> None:
    """Pictures of the page as it is, light and dark, where somebody asked for them."""
    colours = set()
    for dark in (False, True):
        browser.emulate(dark=dark)
        colours.add(browser.background())
        if SHOTS is not None:
            browser.screenshot(Path(SHOTS) / f"{name}-{'dark' if dark else 'light'}.png")
    browser.emulate(dark=False)
    assert len(colours) == 2


def test_what_the_page_says_during_a_failover_is_what_happens(pair: Lab, tmp_path: Path) -> None:
    """It loads itself anew: the browser is told its address once."""
    port, tls = free_port(), pair.client_tls
    with Browser() as browser, JournalGateway(pair, tmp_path, {"gateway_status_port": port}) as gateway:
        primary, replica = (each.url.removeprefix("https://") for each in gateway.config.server_urls)
        assert submit(gateway.port, tls, "a.example").status == 200
        assert ask(gateway.port, tls).status == 200
        browser.open(f"http://127.0.0.1:{port}/")
        browser.requested()
        browser.open(f"http://127.0.0.1:{port}/")
        healthy = browser.until(lambda text: "Healthy" in text, 1)
        assert "Failovers of the last day\n" in healthy
        assert "None: no server was unhealthy" in healthy
        assert (browser.texts("svg .outage"), browser.texts("svg .move")) == ([], [])
        assert browser.texts("section:nth-of-type(2) tbody td:nth-child(3)") == ["● healthy", "● healthy"]
        shoot(browser, "gateway-healthy")

        pair.fault(PRIMARY, "freeze")
        # Nobody asks anything: its own checks find out, and the page that nobody touches says so.
        out = browser.until(lambda text: "Degraded" in text, 40)
        assert f"https://{primary} is unhealthy since" in out
        assert f"Commands and queries go to https://{replica}." in out
        assert submit(gateway.port, tls, "b.example").headers["X-Pdbclient-Failed-Over"] == "true"
        assert ask(gateway.port, tls).server == int(replica.rpartition(":")[2])
        moved = f"commands go to {replica}, no longer to {primary}"
        shown = browser.until(lambda text: moved in text, 20)
        assert moved.replace("commands", "queries") in shown
        told = document(port)
        (outage,) = told["outages"]
        assert (outage["server"], outage["ended"]) == (f"https://{primary}", None)
        assert [(each["kind"], each["target"]) for each in told["failovers"]] == [
            ("command", f"https://{replica}"),
            ("query", f"https://{replica}"),
        ]
        assert outage["began"][11:19] in shown
        assert outage["why"] in shown
        # In the last hour, and in the last day.
        assert len(browser.texts("svg .outage")) == 2
        assert len(browser.texts("svg .move")) == 4
        assert browser.texts("section:nth-of-type(2) tbody td:nth-child(3)") == ["✖ unhealthy", "● healthy"]
        shoot(browser, "gateway-failover")

        pair.fault(PRIMARY, "thaw")
        back = re.compile(rf"{re.escape(primary)} unhealthy, for .+, until \d\d:\d\d:\d\d").search
        again = browser.until(lambda text: back(text) is not None, 40)
        (outage,) = document(port)["outages"]
        assert outage["ended"] is not None
        # It has not what the other one took meanwhile. What is newer than that, it gets itself.
        assert f"https://{primary} may lack 1 newer command that another server took in its place" in again
        assert submit(gateway.port, tls, "b.example").headers["X-Pdbclient-Failed-Over"] == "false"
        browser.until(lambda text: "Healthy" in text, 20)
        shoot(browser, "gateway-after")

        assert browser.complaints() == []
        asked = {url for url in browser.requested() if not url.startswith("data:")}
        assert asked == {f"http://127.0.0.1:{port}/"}
        assert not browser.overflows()


def test_the_page_of_the_reconciler_says_what_its_passes_come_to(pair: Lab, tmp_path: Path) -> None:
    port, site = free_port(), ReconciledPair(pair, tmp_path)
    for session in site.session.values():
        session.close()
    settings = f"\n  status_port: {port}\n  read_timeout: 3s\n  operation_timeout: 5s"
    path = site.conf[PRIMARY]
    path.write_text(path.read_text().replace("sync: {", f"sync: {{{settings}", 1))
    remote = site.config(PRIMARY).remotes[0].endpoint.url
    with Browser() as browser, sync_running(site, PRIMARY) as daemon:
        events_until(daemon, "sync", "finished")
        browser.open(f"http://127.0.0.1:{port}/")
        shown = browser.until(lambda text: "Healthy" in text, 20)
        assert f"Divergence from {remote.removeprefix('https://')}" in shown
        assert browser.texts("section:nth-of-type(2) tbody td:nth-child(2)") == ["● done"]
        shoot(browser, "reconciler-healthy")

        pair.fault(REPLICA, "freeze")
        assert ask_for_pass(port, None) == [remote]
        shown = browser.until(lambda text: "Degraded" in text, 90)
        (told,) = document(port)["remotes"]
        assert (told["ok"], told["last_pass"]["outcome"]) == (False, "unreachable")
        assert f"The last pass against {remote} failed: {told['last_error']}" in shown
        assert browser.texts("section:nth-of-type(2) tbody td:nth-child(2)") == ["▲ unreachable"]
        shoot(browser, "reconciler-unreachable")
        pair.fault(REPLICA, "thaw")
        assert browser.complaints() == []
