"""What the gateway logs while no server can be used: little, however many requests meet that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site
from .fake import answer, queued
from .gateway import GatewayThread, ask, eventually, gateway_config, submit

Start = Callable[..., GatewayThread]
Lines = list[tuple[str, str]]

MAINTENANCE = answer(b"PuppetDB is in maintenance mode", 503, Retry_After="60")
NUMBER = 20


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            config = gateway_config(site.config(site.primary.port, site.replica.port), site.pki.server, **changes)
            return stack.enter_context(GatewayThread(config))

        yield run


def meet_an_outage(gateway: GatewayThread, site: Site) -> list[int]:
    """Commands and queries while both servers are in maintenance mode, and one command when they are not any more."""
    site.primary.reply = site.replica.reply = MAINTENANCE
    statuses = [submit(gateway.port, site.pki.client, f"n{number}.example").status for number in range(NUMBER)]
    statuses += [ask(gateway.port, site.pki.client).status for _ in range(NUMBER)]
    site.primary.reply = site.replica.reply = queued
    # Each server is tried once a second all the same.
    time.sleep(1.1)
    statuses.append(submit(gateway.port, site.pki.client).status)
    return statuses


def told(caplog: pytest.LogCaptureFixture) -> Lines:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name.startswith("pdbclient")]


def test_an_outage_is_one_error_and_one_line_when_it_is_over(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start()
    caplog.set_level(logging.INFO)
    caplog.clear()
    assert meet_an_outage(gateway, site) == [503] * 2 * NUMBER + [200]
    lines = told(caplog)
    # Commands are taken again; that queries are answered is not known yet.
    assert [level for level, _ in lines] == ["WARNING", "WARNING", "ERROR"]
    met = [
        f"https://localhost:{port}: busy: PuppetDB is in maintenance mode"
        for port in (site.primary.port, site.replica.port)
    ]
    assert lines[2][1] == f"no PuppetDB can be used for commands and queries: {'; '.join(met)}"
    caplog.clear()
    assert ask(gateway.port, site.pki.client).status == 200
    ((level, text),) = told(caplog)
    assert level == "WARNING"
    assert text.startswith("a PuppetDB can be used again, after ")
    assert text.endswith(f" s; {NUMBER} commands and {NUMBER} queries found none meanwhile")


def test_with_a_journal_too_and_what_was_delivered_is_one_line(
    site: Site, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start(journal=str(tmp_path / "journal"))
    caplog.set_level(logging.INFO)
    caplog.clear()
    assert meet_an_outage(gateway, site) == [200] * NUMBER + [503] * NUMBER + [200]
    assert eventually(lambda: "are delivered" in caplog.text, 10)
    lines = told(caplog)
    assert [level for level, _ in lines].count("ERROR") == 1
    assert len(lines) <= 6, "however many commands there were"
    delivered = sum(int(text.split()[0]) for _, text in lines if "pending for any server are delivered" in text)
    assert delivered == NUMBER


def test_what_fails_while_servers_are_in_use_is_told_each_time(
    site: Site, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start()
    caplog.clear()
    site.primary.reply = site.replica.reply = answer(b"oops", 500)
    assert submit(gateway.port, site.pki.client).status == 503
    ((level, text),) = told(caplog)
    assert level == "WARNING"
    assert text.startswith("'replace facts' for 'node.example': no PuppetDB could do it:")
