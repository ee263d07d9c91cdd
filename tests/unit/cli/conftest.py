"""The command line in this process and in a child, against PuppetDBs that are not."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO

import pytest

from pdbclient.cli.main import main
from pdbclient.config import puppet_conf
from pdbclient.config.model import TlsFiles
from pdbclient.lab.certificates import CertificateAuthority
from tests.ended import Ended
from tests.faults.fake import Fake

from .sync_site import SyncSite

LONG = 60.0


Run = Callable[..., Ended]
Stream = int | IO[bytes] | None


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_puppet_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puppet_conf, "AIO_CONFDIR", tmp_path / "aio")
    monkeypatch.setattr(puppet_conf, "DEBIAN_CONFDIR", tmp_path / "debian")
    monkeypatch.setattr(puppet_conf, "DEBIAN_SSLDIR", tmp_path / "debian-ssl")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line here: `run("query", "-", stdin=b"nodes{}")`. No traceback ever, whatever it meets."""

    def _run(*argv: object, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin), "utf-8"))
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)

    return _run


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("cli-pki"), "command line test CA")
    authority.create()
    return {name: authority.issue(name) for name in ("server", "client")}


class CliSite:
    """Two fake PuppetDBs, in this order in `conf`; give one a `reply` of its own, or close it."""

    def __init__(self, directory: Path, tls: dict[str, TlsFiles], stack: ExitStack) -> None:
        self.primary, self.replica = (stack.enter_context(Fake(tls["server"])) for _ in range(2))
        self._directory, self._tls = directory, replace(tls["client"], crl=None)
        self.conf = self.configured("puppetdb.conf", [self.primary.port, self.replica.port])

    def configured(self, name: str, ports: list[int], main: str = "") -> Path:
        """A puppetdb.conf for these ports."""
        path = self._directory / name
        urls = ",".join(f"https://localhost:{port}" for port in ports)
        path.write_text(
            f"[main]\nserver_urls = {urls}\n{main}\n[pdbclient]\nssl_ca_cert = {self._tls.ca}\n"
            f"ssl_cert = {self._tls.cert}\nssl_key = {self._tls.key}\nconnect_timeout = 1s\nread_timeout = 2s\n"
        )
        return path


@pytest.fixture
def site(tmp_path: Path, tls: dict[str, TlsFiles]) -> Iterator[CliSite]:
    with ExitStack() as stack:
        yield CliSite(tmp_path, tls, stack)


@pytest.fixture
def sync_site(tmp_path: Path, tls: dict[str, TlsFiles], monkeypatch: pytest.MonkeyPatch) -> SyncSite:
    return SyncSite(tmp_path, tls["client"], monkeypatch)


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command line in a child, which ends with the test: `child("status", stdout=slave)`."""
    with ExitStack() as stack:

        def start(
            *argv: object,
            env: dict[str, str] | None = None,
            stdin: Stream = None,
            stdout: Stream = subprocess.PIPE,
            stderr: Stream = subprocess.PIPE,
        ) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "pdbclient", *map(str, argv)]
            # Buffered, as users have it: how a stream ends differs.
            all_env = os.environ | {"PYTHONUNBUFFERED": ""} | (env or {})
            process = subprocess.Popen(command, env=all_env, stdin=stdin, stdout=stdout, stderr=stderr)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start
