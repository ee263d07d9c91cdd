"""One reconciler for one local server, whatever its configuration is and calls it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import SyncError
from pdbclient.sync import Reconciler, reconcile
from pdbclient.sync.run import server_lock
from pdbclient.sync.run.server_lock import ServerLock

from .conftest import SyncPair

addresses = server_lock._addresses
"""Before any test puts something in its place."""
OWN = {
    "pdb.example.com": ["127.0.1.1"],
    "both.example.com": ["203.0.113.9", "::1"],
    "far.example.com": ["203.0.113.9"],
}


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lock, "_addresses", lambda server: OWN.get(server.host, []))


def excludes(one: Endpoint, other: Endpoint) -> bool:
    with ServerLock(one):
        try:
            with ServerLock(other):
                return False
        except SyncError:
            return True


def test_two_configurations_with_state_of_their_own_for_one_server_exclude_each_other(site: SyncPair) -> None:
    first = site.config(site.b)
    second = replace(first, state_dir=site.directory / "other")
    with Reconciler(first, connect=site.connect, clock=site.clock):
        with pytest.raises(SyncError, match=rf"{site.b.endpoint}: another reconciler .* pid {os.getpid()}\b"):
            reconcile(second, connect=site.connect, clock=site.clock)
        assert reconcile(replace(second, local=site.a.endpoint, remotes=()), connect=site.connect) == []
    assert reconcile(second, connect=site.connect, clock=site.clock)[0].ok


def test_one_that_is_refused_gives_back_what_it_had(site: SyncPair) -> None:
    first = site.config(site.b)
    second = replace(first, state_dir=site.directory / "other")
    with ServerLock(site.b.endpoint), pytest.raises(SyncError):
        reconcile(second, connect=site.connect, clock=site.clock)
    assert reconcile(second, connect=site.connect, clock=site.clock)[0].ok


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pdbclient.config.model import Endpoint; from pdbclient.sync.run import server_lock\n"
        "server_lock.SPACE = sys.argv[1]\n"
        "with server_lock.ServerLock(Endpoint('localhost', 8081)): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, server_lock.SPACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for _ in range(3):
            with pytest.raises(SyncError, match=f"pid {holder.pid}"), ServerLock(Endpoint("127.0.0.1", 8081)):
                pass
        holder.kill()
        holder.wait()
        with ServerLock(Endpoint("localhost", 8081)):
            pass


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "127.0.1.1", "pdb.example.com", "both.example.com"],
)
def test_a_server_of_this_machine_is_the_same_by_each_of_its_names(host: str) -> None:
    for other in ("localhost", "127.0.0.1", "::1", "pdb.example.com"):
        assert excludes(Endpoint(host, 8081), Endpoint(other, 8081))


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Endpoint("localhost", 8081), Endpoint("localhost", 8082)),
        (Endpoint("localhost", 8081), Endpoint("far.example.com", 8081)),
        (Endpoint("far.example.com", 8081), Endpoint("203.0.113.9", 8081)),
        (Endpoint("a.example.com", 8081), Endpoint("b.example.com", 8081)),
        (Endpoint("a" * 63 + ".example.com" * 12 + "1", 8081), Endpoint("a" * 63 + ".example.com" * 12 + "2", 8081)),
    ],
)
def test_other_servers_have_locks_of_their_own(one: Endpoint, other: Endpoint) -> None:
    assert not excludes(one, other)
    assert excludes(one, one)


def test_an_address_of_this_machine_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.9", 9))
        except OSError:
            own = "127.0.0.1"
        else:
            own = str(probe.getsockname()[0])
    assert server_lock._is_here(own)
    assert not server_lock._is_here("203.0.113.9")
    monkeypatch.setattr(server_lock, "_addresses", addresses)
    assert excludes(Endpoint("localhost", 8081), Endpoint(own, 8081))


def test_a_name_that_cannot_be_looked_up_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(server_lock, "_addresses", addresses)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert excludes(Endpoint("pdb.example.com", 8081), Endpoint("pdb.example.com", 8081))


def test_where_the_lock_cannot_be_had_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(SyncError, match=r"cannot be told, for want of a Unix socket: .*not supported"):
        ServerLock(Endpoint("localhost", 8081)).__enter__()


def test_more_processes_than_it_lets_ask_are_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lock, "QUEUE", 1)
    with ServerLock(Endpoint("localhost", 8081)):
        for _ in range(5):
            with pytest.raises(SyncError, match="another reconciler"), ServerLock(Endpoint("localhost", 8081)):
                pass
