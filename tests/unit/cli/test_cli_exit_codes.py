"""What the exit code says, and what a command leaves on its two streams."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pdbclient import errors
from pdbclient.cli import output, status
from pdbclient.errors import PdbError, Problem
from pdbclient.wire import InvalidQuery
from tests.faults.fake import Answer, Request, answer, queued

from .conftest import LONG, CliSite, Run

Child = Callable[..., "subprocess.Popen[bytes]"]

URL = "https://localhost:1"
CODES: dict[PdbError, int] = {
    errors.ConfigError([Problem("f", 1, "s", "bad")]): 2,
    errors.InvalidCommand("replace facts", "a", "$", "bad"): 2,
    errors.NotPreserved("store report", "a", "$.hash", "bad"): 2,
    InvalidQuery("bad"): 2,
    errors.TransportError(URL, "bad"): 3,
    errors.NotSent(URL, "bad"): 3,
    errors.NoPlace(URL, "bad"): 3,
    errors.LocalFault(URL, "bad"): 3,
    errors.OutOfTime(URL, "bad"): 3,
    errors.Unresponsive(URL, "bad"): 3,
    errors.CallerLeft("bad"): 1,
    errors.TlsError(URL, "bad"): 3,
    errors.Ambiguous(URL, "bad"): 3,
    errors.DeadlineExceeded(URL, "bad"): 3,
    errors.IncompleteResponse(URL, "bad", 7): 3,
    errors.AllEndpointsFailed("bad", []): 3,
    errors.ServerError(URL, 500, "bad"): 1,
    errors.Busy(URL, 503, "bad", 5.0): 1,
    errors.Rejected(URL, 400, "bad"): 1,
    errors.Forbidden(URL, 403, "bad"): 1,
    errors.NotFound(URL, 404, "bad"): 1,
    errors.Misrouted(URL, 404, "bad"): 1,
    errors.SyncError("bad"): 1,
    errors.StatusError("bad"): 1,
    errors.SafetyBrake("bad"): 1,
    errors.StaleAnswer(URL, 2, "2026-01-01T00:00:00.000Z", "bad"): 3,
    errors.JournalError("bad"): 4,
    errors.JournalFull("bad"): 4,
    errors.JournalCorrupt("bad"): 4,
    errors.JournalBusy("bad", 4711): 4,
    errors.GatewayError("bad"): 1,
    errors.LabError("bad"): 1,
}


def _kinds(kind: type[PdbError]) -> Iterator[type[PdbError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def test_every_error_of_the_package_is_in_the_table() -> None:
    """A new error that callers meet gets its exit code on purpose."""
    ours = {kind for kind in _kinds(PdbError) if kind.__module__.startswith(("pdbclient.errors", "pdbclient.wire"))}
    assert ours - {PdbError} == {type(error) for error in CODES}


@pytest.mark.parametrize("error", CODES, ids=lambda error: type(error).__name__)
def test_every_error_is_one_message_and_its_exit_code(
    error: PdbError, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing on standard output, also with --json: a script sees the exit code."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(status, "_status", fail)
    ended = run("status", "--json")
    assert (ended.code, ended.out) == (CODES[error], "")
    assert "bad" in ended.err
    assert all(line.startswith("pdbclient: ") for line in ended.err.splitlines())


def test_status_tells_by_its_exit_code_how_many_are_well(run: Run, site: CliSite) -> None:
    """All: 0. Some: 1. None: 3. The answer is printed in each case."""
    nobody = 1
    cases = {
        0: [site.primary.port, site.replica.port],
        1: [nobody, site.replica.port],
        3: [nobody],
    }
    for code, ports in cases.items():
        ended = run("status", "--json", "--config", site.configured("some.conf", ports))
        assert ended.code == code
        told = json.loads(ended.out)
        states = ["unreachable" if port == nobody else "running" for port in ports]
        assert [server["state"] for server in told["servers"]] == states
        assert [server["error"] is None for server in told["servers"]] == [state == "running" for state in states]
        first = next((port for port in ports if port != nobody), nobody)
        assert told["next"] == dict.fromkeys(("command", "query"), f"https://localhost:{first}")


def test_a_rejected_query_is_a_no_of_the_server(run: Run, site: CliSite) -> None:
    """Exit 1, with what the server said; the other server is not asked."""
    site.primary.reply = answer(b"PQL parse error at line 1", 400)
    ended = run("query", "garbage", "--json", "--config", site.conf)
    assert (ended.code, ended.out) == (1, "")
    assert "PQL parse error at line 1" in ended.err
    assert site.replica.requests == []


def test_nobody_there_is_three(run: Run, site: CliSite) -> None:
    """For a query as for a command."""
    conf = site.configured("down.conf", [1, 2])
    for argv in (["query", "nodes{}"], ["nodes"], ["submit", "deactivate", "a"], ["query", "nodes{}", "--lines"]):
        ended = run(*argv, "--config", conf)
        assert (ended.code, ended.out) == (3, "")
        assert "https://localhost:1" in ended.err


def test_ctrl_c_is_130_without_a_word(child: Child, site: CliSite) -> None:
    """While a server keeps us waiting."""
    asked, over = threading.Event(), threading.Event()

    def never(_: Request) -> Answer:
        asked.set()
        over.wait(LONG)
        return answer([])

    site.primary.reply = never
    process = child("nodes", "--config", site.conf)
    try:
        assert asked.wait(LONG)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    finally:
        over.set()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_in_the_middle_of_submitting_tells_what_was_taken(child: Child, site: CliSite) -> None:
    """What a server has acknowledged is printed, and no more."""
    asked, over = threading.Event(), threading.Event()

    def only_the_first(request: Request) -> Answer:
        if len(site.primary.commands) > 1:
            asked.set()
            over.wait(LONG)
        return queued(request)

    site.primary.reply = only_the_first
    process = child("submit", "deactivate", "a", "b", "c", "--json", "--config", site.conf)
    try:
        assert asked.wait(LONG)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    finally:
        over.set()
    assert (process.returncode, err) == (130, b"")
    assert [entry["certname"] for entry in json.loads(out)] == ["a"]


def test_the_module_is_the_command(child: Child) -> None:
    """`python -m pdbclient` works where the script is not on PATH, and calls itself pdbclient."""
    process = child("--version")
    out, err = process.communicate(timeout=LONG)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"pdbclient ")


def test_a_closed_standard_input_is_said_to_be_closed(site: CliSite) -> None:
    """Not a traceback, where a job has none."""
    for argv in (["submit", "facts", "-"], ["query", "-"]):
        pdbclient = [sys.executable, "-m", "pdbclient", *argv, "--config", str(site.conf)]
        command = ["/bin/sh", "-c", 'exec "$0" "$@" <&-', *pdbclient]
        ended = subprocess.run(command, capture_output=True, timeout=LONG, check=False)
        assert ended.returncode == 2
        assert b"standard input: is closed" in ended.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_a_stream_closed_a_command_does_what_it_does(closed: str, site: CliSite) -> None:
    """As with /dev/null, and not a traceback, which a closed standard error would not even show."""
    for argv, code in ((["config", "check"], 0), (["config", "check", "--no-such"], 2)):
        pdbclient = [sys.executable, "-m", "pdbclient", *argv, "--config", str(site.conf)]
        command = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', *pdbclient]
        ended = subprocess.run(command, capture_output=True, timeout=LONG, check=False)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False)


def test_an_exit_code_of_success_is_not_among_the_errors() -> None:
    """Whatever goes wrong, a script notices."""
    assert all(output.exit_code(error) != 0 for error in CODES)
