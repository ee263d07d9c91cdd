"""`pdbclient status`: what the daemons of this machine say, and what it comes to."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pdbclient.lab.ports import free_port
from pdbclient.observe.page.document import Document, decode
from pdbclient.observe.status_port import StatusPort
from tests.unit.observe.documents import PRIMARY, REPLICA, WHY, gateway, reconciler

from .conftest import Run
from .sync_site import SyncSite


@dataclass
class ShownDaemon:
    """Stands behind a status port."""

    told: Document
    port: int = field(default_factory=free_port)

    def document(self) -> Document:
        return self.told

    def metrics(self) -> bytes:
        return b""


@pytest.fixture
def daemon() -> Iterator[ShownDaemon]:
    made = ShownDaemon(gateway())
    with StatusPort(made.port, made):
        yield made


def conf(path: Path, port: int | None) -> Path:
    setting = "" if port is None else f"gateway_status_port = {port}\n"
    path.write_text(f"[main]\nserver_urls = {PRIMARY},{REPLICA}\n[pdbclient]\n{setting}")
    return path


def test_a_gateway_that_is_well_is_shown_line_by_line(run: Run, daemon: ShownDaemon, tmp_path: Path) -> None:
    """The certificates of puppetdb.conf are not there: whoever looks need not be able to read them."""
    ended = run("status", "--config", conf(tmp_path / "puppetdb.conf", daemon.port))
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split("\t") for line in ended.out.splitlines()]
    assert ["gateway", "Journal", "Parked", "0"] in lines
    assert lines[0][:5] == ["gateway", "Servers", "1", "db1.example.com:8081", "healthy"]


def test_what_needs_attention_comes_first_and_exits_1(run: Run, daemon: ShownDaemon, tmp_path: Path) -> None:
    daemon.told = gateway(failed_over=True)
    ended = run("status", "--config", conf(tmp_path / "puppetdb.conf", daemon.port))
    assert ended.code == 1
    program, level, text = ended.out.splitlines()[0].split("\t")
    assert (program, level, f"{PRIMARY} is unhealthy" in text, WHY in text) == ("gateway", "WARNING", True, True)


def test_json_is_the_document_of_the_port_by_program(run: Run, daemon: ShownDaemon, tmp_path: Path) -> None:
    ended = run("status", "--config", conf(tmp_path / "puppetdb.conf", daemon.port), "--json")
    document = json.loads(ended.out)
    assert list(document) == ["gateway"]
    assert decode(json.dumps(document["gateway"]).encode()) == daemon.told


def test_with_a_sync_configuration_the_reconciler_is_asked_and_with_both_both(
    run: Run, daemon: ShownDaemon, sync_site: SyncSite, tmp_path: Path
) -> None:
    other = ShownDaemon(reconciler())
    with StatusPort(other.port, other):
        sync_site.configured(more=f"  status_port: {other.port}\n")
        alone = run("status", "--sync-config", sync_site.conf, "--json")
        assert (alone.code, list(json.loads(alone.out))) == (0, ["sync"])
        other.told = reconciler(ok=False, last_error="the remote cannot be reached")
        path = conf(tmp_path / "puppetdb.conf", daemon.port)
        both = run("status", "--config", path, "--sync-config", sync_site.conf)
        assert both.code == 1
        assert {line.split("\t")[0] for line in both.out.splitlines()} == {"gateway", "sync"}


def test_a_daemon_that_does_not_answer_exits_3_and_says_what_should_listen_there(run: Run, tmp_path: Path) -> None:
    port = free_port()
    ended = run("status", "--config", conf(tmp_path / "puppetdb.conf", port))
    assert (ended.code, ended.out) == (3, "")
    assert f"no daemon listens on 127.0.0.1 port {port}: is `pdbclient gateway` running" in ended.err


def test_a_status_port_that_is_not_set_is_asked_for(run: Run, sync_site: SyncSite, tmp_path: Path) -> None:
    path = conf(tmp_path / "puppetdb.conf", None)
    ended = run("status", "--config", path, "--watch")
    assert ended.code == 2
    assert f"{path}: gateway_status_port: is not set: add, for example, gateway_status_port = 8089" in ended.err
    ended = run("status", "--sync-config", sync_site.conf)
    assert ended.code == 2
    assert f"{sync_site.conf}: status_port: is not set: add, for example, status_port: 8088" in ended.err


def test_with_both_configurations_the_gateway_is_not_left_out_without_a_word(
    run: Run, sync_site: SyncSite, tmp_path: Path
) -> None:
    other = ShownDaemon(reconciler())
    path = conf(tmp_path / "puppetdb.conf", None)
    with StatusPort(other.port, other):
        sync_site.configured(more=f"  status_port: {other.port}\n")
        ended = run("status", "--config", path, "--sync-config", sync_site.conf)
    assert (ended.code, ended.out) == (2, "")
    assert f"{path}: gateway_status_port: is not set" in ended.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_another_daemon_at_the_port_is_not_taken_for_the_one_that_is_asked(
    run: Run, daemon: ShownDaemon, sync_site: SyncSite, tmp_path: Path, options: tuple[str, ...]
) -> None:
    sync_site.configured(more=f"  status_port: {daemon.port}\n")
    alone = run("status", "--sync-config", sync_site.conf, *options)
    assert (alone.code, alone.out.strip()) == (3, "{}" if options else "")
    assert f"status_port {daemon.port} is the port of another daemon (gateway)" in alone.err
    path = conf(tmp_path / "p.conf", daemon.port)
    both = run("status", "--config", path, "--sync-config", sync_site.conf, *options)
    assert both.code == 3
    assert "gateway" in both.out
    daemon.told = reconciler()
    wrong = run("status", "--config", path, *options)
    assert (wrong.code, wrong.out.strip()) == (3, "{}" if options else "")
    assert f"gateway_status_port {daemon.port} is the port of another daemon (sync)" in wrong.err


class Terminal:
    """A command on a terminal of its own, 200 columns wide."""

    def __init__(self, *argv: object) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        # Where these are set, they count more than the terminal's own size.
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment = {**inherited, "TERM": "xterm-256color"}
        command = [sys.executable, "-m", "pdbclient", *map(str, argv)]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, *texts: str) -> None:
        """Wait until it has written all of these since it was asked last."""
        end = time.monotonic() + 30
        while not all(text in self.screen for text in texts):
            assert time.monotonic() < end, self.screen
            if select.select([self._ours], [], [], 0.1)[0]:
                self.screen += os.read(self._ours, 65536).decode()
        self.screen = ""

    def ended(self) -> int:
        """Its exit code. What it still writes is read, or it would wait for that before it ends."""
        end = time.monotonic() + 10
        while self.process.poll() is None:
            assert time.monotonic() < end, self.screen
            if select.select([self._ours], [], [], 0.1)[0]:
                with suppress(OSError):  # it has closed the terminal
                    os.read(self._ours, 65536)
        return self.process.wait()


def test_watching_shows_on_a_terminal_what_changes_until_it_is_interrupted(tmp_path: Path) -> None:
    daemon = ShownDaemon(gateway())
    with ExitStack() as port:
        port.enter_context(StatusPort(daemon.port, daemon))
        path = conf(tmp_path / "puppetdb.conf", daemon.port)
        with Terminal("status", "--config", path, "--watch", "0.1") as terminal:
            terminal.until("HEALTHY", "Failovers of the last day", "db1.example.com:8081")
            daemon.told = replace(gateway(failed_over=True))
            terminal.until("DEGRADED", f"{PRIMARY} is unhealthy", f"Commands and queries go to {REPLICA}")
            daemon.told = gateway()
            terminal.until("HEALTHY")
            port.close()
            terminal.until("no daemon listens on 127.0.0.1")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.ended() == 130
