"""`pdbclient check`, as Nagios runs it: only the exit code and the first line of standard output count."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.lab.ports import free_port
from pdbclient.observe.page.document import Document
from pdbclient.observe.status_port import StatusPort
from tests.unit.observe.documents import gateway, reconciler

from .conftest import Run

Serve = Callable[[Document], int]


class TellingDaemon:
    """A daemon that tells this."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def document(self) -> Document:
        return self._document

    def metrics(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("document", "daemon", "code", "line"),
    [
        (gateway(), "gateway", 0, "PDBCLIENT GATEWAY OK - all 2 servers healthy | 'healthy_servers'=2;2:;1:;0 "),
        (gateway(failed_over=True), "gateway", 1, "PDBCLIENT GATEWAY WARNING - https://db1.example.com:8081 is unhe"),
        (gateway(servers=()), "sync", 3, "PDBCLIENT SYNC UNKNOWN - port"),
        (reconciler(), "sync", 0, "PDBCLIENT SYNC OK - last pass 70 s ago | "),
        (reconciler(lag_seconds=3700.0), "sync", 2, "PDBCLIENT SYNC CRITICAL - "),
    ],
)
def test_the_state_of_a_daemon_is_the_exit_code(
    run: Run, document: Document, daemon: str, code: int, line: str
) -> None:
    with StatusPort(0, TellingDaemon(document)) as port:
        ended = run("check", daemon, "--port", str(port.port))
    assert (ended.code, ended.err) == (code, "")
    assert ended.out.startswith(line)


def test_a_limit_is_what_it_says(run: Run) -> None:
    with StatusPort(0, TellingDaemon(reconciler())) as port:
        assert run("check", "sync", "--port", str(port.port), "--max-lag", "1m").code == 2
        assert run("check", "sync", "--port", str(port.port), "--max-lag", "2m").code == 0


def test_a_daemon_that_is_not_there_is_critical(run: Run) -> None:
    port = free_port()
    ended = run("check", "gateway", "--port", str(port))
    assert ended.code == 2
    assert ended.out.startswith(f"PDBCLIENT GATEWAY CRITICAL - no daemon listens on 127.0.0.1 port {port}")


def test_the_port_is_that_of_the_configuration(run: Run, tmp_path: Path) -> None:
    conf = tmp_path / "puppetdb.conf"
    with StatusPort(0, TellingDaemon(gateway())) as port:
        conf.write_text(
            "[main]\nserver_urls = https://gw:8085,https://a\n[pdbclient]\ngateway_url = https://gw:8085\n"
            f"gateway_status_port = {port.port}\n"
        )
        assert run("check", "gateway", "--config", str(conf)).code == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "which daemon?"),
        (["foo"], "invalid choice: 'foo'"),
        (["gateway", "--max-lag", "5m"], "unrecognized arguments: --max-lag 5m"),
        (["gateway", "--port", "1", "a|b"], "unrecognized arguments: a/b"),
        (["sync", "--port", "1", "extra"], "unrecognized arguments: extra"),
        (["--bogus", "sync", "--port", "1"], "unrecognized arguments: --bogus"),
        (["gateway", "--port", "1", "--", "x"], "unrecognized arguments: -- x"),
        (["gateway", "--port", "x"], "'x' is no port"),
        (["gateway", "--port", "70000"], "'70000' is no port: they are 1 to 65535"),
        (["sync"], "one of the arguments --config --port is required"),
        (["sync", "--port", "1", "--max-lag", "long"], "'long'"),
        (["gateway", "--config", "{conf}"], "gateway_status_port: is not set"),
        (["sync", "--config", "{conf}"], "there is no sync section"),
        (["gateway", "--config", "{missing}"], "there is no such file"),
    ],
)
def test_what_is_wrong_with_the_question_is_unknown_and_not_critical(
    run: Run, tmp_path: Path, arguments: list[str], what: str
) -> None:
    conf = tmp_path / "puppetdb.conf"
    conf.write_text("[main]\nserver_urls = https://gw:8085,https://a\n")
    given = [each.format(conf=conf, missing=tmp_path / "none") for each in arguments]
    ended = run("check", *given)
    assert (ended.code, ended.err) == (3, "")
    (line,) = ended.out.splitlines()
    assert re.match(r"PDBCLIENT (GATEWAY |SYNC )?UNKNOWN - ", line)
    assert what in line


def test_an_option_before_the_command_is_unknown_too(run: Run) -> None:
    ended = run("--bogus", "check", "sync", "--port", "1")
    assert (ended.code, ended.out) == (3, "PDBCLIENT UNKNOWN - unrecognized arguments: --bogus\n")
