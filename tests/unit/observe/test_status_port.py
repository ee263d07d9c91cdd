"""A daemon's status port, on a real socket."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from pdbclient.errors import StatusError, SyncError
from pdbclient.observe.page.document import Document, Program, decode
from pdbclient.observe.status_client import ask_for_pass, read_document
from pdbclient.observe.status_port import MOST, StatusPort

URL = "https://b.example.com:8081"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DOCUMENT = Document(Program("sync", "b.example.com", "0.2.0", NOW), NOW)


class DaemonBehindPort:
    """What stands behind the port; `broken` is raised by everything."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.broken: Exception | None = None

    def document(self) -> Document:
        self._break()
        return DOCUMENT

    def metrics(self) -> bytes:
        self._break()
        return b"a_metric 1.0\n"

    def trigger(self, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        self._break()
        remote = query["remote"][-1] if "remote" in query else None
        self.asked.append(remote)
        return (202, {"triggered": [URL]}) if remote in (None, URL) else (404, {"error": f"{remote} is not known"})

    def _break(self) -> None:
        if self.broken is not None:
            raise self.broken


def serving(daemon: DaemonBehindPort, port: int = 0) -> StatusPort:
    return StatusPort(port, daemon, actions={"/trigger": daemon.trigger})


def ask(port: int, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def port_threads() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if "status-port" in thread.name or "process_request" in thread.name
    ]


def test_it_shows_the_status_as_json_and_as_a_page_and_the_metrics_as_text() -> None:
    with serving(DaemonBehindPort()) as port:
        status, headers, body = ask(port.port, "GET", "/status")
        assert (status, headers["Content-Type"], decode(body)) == (200, "application/json", DOCUMENT)
        status, headers, body = ask(port.port, "GET", "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"pdbclient reconciler on b.example.com" in body
        status, headers, body = ask(port.port, "GET", "/metrics")
        assert (status, body) == (200, b"a_metric 1.0\n")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_a_head_is_a_get_without_the_body() -> None:
    with serving(DaemonBehindPort()) as port:
        status, headers, body = ask(port.port, "HEAD", "/metrics")
        assert (status, headers["Content-Length"], body) == (200, "13", b"")


def test_a_trigger_is_accepted_for_all_remotes_or_one_and_not_for_another() -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        status, _, body = ask(port.port, "POST", "/trigger")
        assert (status, json.loads(body)) == (202, {"triggered": [URL]})
        assert ask(port.port, "POST", "/trigger?remote=https%3A%2F%2Fb.example.com%3A8081")[0] == 202
        status, _, body = ask(port.port, "POST", "/trigger?remote=https://elsewhere:8081")
        assert status == 404
        assert "elsewhere" in json.loads(body)["error"]
    assert daemon.asked == [None, URL, "https://elsewhere:8081"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/favicon.ico", 404),
        ("POST", "/", 405),
        ("POST", "/pdb/cmd/v1", 404),
        ("GET", "/trigger", 405),
        ("POST", "/status", 405),
        ("DELETE", "/metrics", 405),
        ("PUT", "/trigger", 405),
    ],
)
def test_anything_else_is_told_what_there_is(method: str, path: str, status: int) -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        answered, headers, body = ask(port.port, method, path)
    assert answered == status
    assert "POST /trigger" in json.loads(body)["error"]
    assert ("Allow" in headers) is (status == 405)
    assert daemon.asked == []


def test_a_state_file_that_cannot_be_read_is_a_503_with_the_reason_and_a_defect_a_500_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        daemon.broken = SyncError("state.sqlite: is damaged")
        status, _, body = ask(port.port, "GET", "/metrics")
        assert (status, json.loads(body)) == (503, {"error": "state.sqlite: is damaged"})
        daemon.broken = RuntimeError("a secret of the program")
        status, _, body = ask(port.port, "GET", "/status")
        assert status == 500
        assert b"secret" not in body
        status, headers, body = ask(port.port, "GET", "/")
        assert (status, headers["Content-Type"]) == (500, "text/html; charset=utf-8")
        assert b"see the log" in body
        assert b"secret" not in body
    assert "could not answer /status" in caplog.text


def raw(port: int, request: str) -> tuple[int, str]:
    """The status and the body of the answer to exactly this; its lines end as they should."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        answer = b"".join(iter(lambda: client.recv(65_536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "headers",
    [
        "Host: evil.example.com",
        "Host: evil.example.com:{port}",
        "Host: 127.0.0.1.evil.example.com:{port}",
        "Host: localhost.evil.example.com",
        "Host: evil@127.0.0.1",
        "Host: 127.0.0.1@evil.example.com",
        "Host: 0.0.0.0:{port}",
        "Host: 192.168.1.1",
        "Host: [::1].evil.example.com",
        "Host: [::2]:{port}",
        "Host:",
        "X: y",
        "Host: 127.0.0.1\nHost: evil.example.com",
        "Host: evil.example.com\nHost: 127.0.0.1",
        "Host: 127.0.0.1:{port}\nOrigin: http://evil.example.com",
        "Host: 127.0.0.1:{port}\nOrigin: https://localhost.evil.example.com",
        "Host: 127.0.0.1:{port}\nOrigin: null",
        "Host: 127.0.0.1:{port}\nOrigin:",
        "Host: 127.0.0.1:{port}\nOrigin: file://",
        "Host: 127.0.0.1:{port}\nOrigin: http://[",
        "Host: 127.0.0.1:{port}\nOrigin: http://127.0.0.1:{port}\nOrigin: http://evil.example.com",
    ],
)
@pytest.mark.parametrize(
    "line", ["POST /trigger", "GET /", "GET /status", "GET /metrics", "HEAD /metrics", "GET /nothing"]
)
def test_pages_of_other_sites_are_refused_in_words(line: str, headers: str) -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        status, body = raw(port.port, f"{line} HTTP/1.1\n{headers.format(port=port.port)}\n\n")
    assert status == 403
    if not line.startswith("HEAD"):
        assert "programs of this machine" in json.loads(body)["error"]
    assert daemon.asked == []


def test_a_target_that_is_a_whole_url_counts_as_much_as_the_host() -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        for host, status in (("evil.example.com", 403), ("127.0.0.1", 202)):
            request = f"POST http://{host}/trigger HTTP/1.1\nHost: 127.0.0.1\n\n"
            assert raw(port.port, request)[0] == status
    assert daemon.asked == [None]


def test_a_target_that_is_no_url_is_answered() -> None:
    with serving(DaemonBehindPort()) as port:
        assert raw(port.port, "GET http://[ HTTP/1.1\nHost: 127.0.0.1\n\n")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        "Host: 127.0.0.1",
        "Host: 127.0.0.1:{port}",
        "Host: localhost:{port}",
        "host: LocalHost",
        "Host: [::1]:{port}",
        "Host: [::1]",
        # As through `ssh -L 9000:127.0.0.1:PORT`.
        "Host: localhost:9000\nOrigin: http://localhost:9000",
        "Host: 127.0.0.1:{port}\nOrigin: http://127.0.0.1:{port}",
        "Host: 127.0.0.1:{port}\nOrigin: http://[::1]:{port}",
    ],
)
def test_programs_of_this_machine_are_let_in_by_whatever_name_they_call_it(headers: str) -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        status, _ = raw(port.port, f"POST /trigger HTTP/1.1\n{headers.format(port=port.port)}\n\n")
    assert status == 202
    assert daemon.asked == [None]


def test_it_listens_on_the_loopback_address_alone() -> None:
    with serving(DaemonBehindPort()) as port:
        assert port._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said() -> None:
    with (
        serving(DaemonBehindPort()) as port,
        pytest.raises(StatusError, match=f"status_port {port.port}.*another process"),
    ):
        serving(DaemonBehindPort(), port.port)


def test_a_port_that_needs_a_privilege_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may listen at every port: what the kernel tells others stands here in its place."""

    def refuse(_: socket.socket, __: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StatusError, match=r"status_port 80: .*: Permission denied: take a port from 1024 on, "):
        serving(DaemonBehindPort(), 80)
    with pytest.raises(StatusError, match=r"status_port 8088: .*: Permission denied$"):
        serving(DaemonBehindPort(), 8088)


def test_nothing_is_left_of_it_even_with_clients_that_say_nothing_or_half_a_request() -> None:
    before = set(port_threads())
    with serving(DaemonBehindPort()) as port:
        silent, halfway = (socket.create_connection(("127.0.0.1", port.port), timeout=10) for _ in range(2))
        halfway.sendall(b"GET /status HTT")
        # Answered after those two were taken in, which are still there.
        assert ask(port.port, "GET", "/status")[0] == 200
    assert set(port_threads()) == before
    for client in (silent, halfway):
        assert client.recv(1) == b""
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.port), timeout=10)


def test_the_port_can_be_had_again_at_once() -> None:
    with serving(DaemonBehindPort()) as first:
        assert ask(first.port, "GET", "/status")[0] == 200
    with serving(DaemonBehindPort(), first.port) as second:
        assert ask(second.port, "GET", "/status")[0] == 200


def test_asking_for_a_pass_tells_against_which_remotes() -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        assert ask_for_pass(port.port, None) == [URL]
        assert ask_for_pass(port.port, URL) == [URL]
        with pytest.raises(StatusError, match=r"refused: .*elsewhere"):
            ask_for_pass(port.port, "https://elsewhere:8081")
    assert daemon.asked == [None, URL, "https://elsewhere:8081"]


def test_asking_where_nobody_listens_says_so() -> None:
    with serving(DaemonBehindPort()) as port:
        pass
    with pytest.raises(StatusError, match=r"no daemon listens on 127\.0\.0\.1 port .*sync run"):
        ask_for_pass(port.port, None)


def test_asking_where_something_else_listens_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n<html>")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(StatusError, match="does not answer as a daemon does"):
            ask_for_pass(listener.getsockname()[1], None)
        thread.join()


def test_reading_the_document_gives_what_the_daemon_shows_or_says_why_not() -> None:
    daemon = DaemonBehindPort()
    with serving(daemon) as port:
        assert read_document(port.port, "pdbclient sync run") == DOCUMENT
        daemon.broken = SyncError("state.sqlite: is damaged")
        with pytest.raises(StatusError, match=r"cannot tell: state\.sqlite: is damaged"):
            read_document(port.port, "pdbclient sync run")
    with pytest.raises(StatusError, match=r"no daemon listens .*`pdbclient gateway`"):
        read_document(port.port, "pdbclient gateway")


def test_a_port_without_actions_takes_no_post() -> None:
    with StatusPort(0, DaemonBehindPort()) as port:
        status, _, body = ask(port.port, "POST", "/trigger")
    assert (status, json.loads(body)) == (404, {"error": "there are GET /, GET /status, GET /metrics"})


def test_clients_that_say_nothing_take_a_few_threads_at_most_and_no_answer_from_others() -> None:
    with serving(DaemonBehindPort()) as port, ExitStack() as held:
        for _ in range(3 * MOST):
            held.enter_context(socket.create_connection(("127.0.0.1", port.port), timeout=10))
            assert len(port_threads()) <= MOST + 1
        assert ask(port.port, "GET", "/status")[0] == 200
        assert len(port_threads()) <= MOST + 1


def test_clients_that_do_not_end_keep_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdbclient.observe.status_port.ROOM", 0.05)
    over = threading.Event()
    daemon = DaemonBehindPort()
    monkeypatch.setattr(daemon, "metrics", lambda: str(over.wait(10)).encode())
    with serving(daemon) as port, ExitStack() as held:
        try:
            for _ in range(MOST):
                client = held.enter_context(socket.create_connection(("127.0.0.1", port.port), timeout=10))
                client.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with pytest.raises((OSError, http.client.HTTPException)):
                ask(port.port, "GET", "/status")
            assert len(port_threads()) <= MOST + 1
        finally:
            over.set()
        deadline = time.monotonic() + 5
        while len(port_threads()) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(port.port, "GET", "/status")[0] == 200
