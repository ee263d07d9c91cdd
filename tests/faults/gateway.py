"""A gateway for the fault tests: in a thread with a loop of its own, or, where the process matters, as a process."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any, Self

from pdbclient.config import ClientConfig, Endpoint
from pdbclient.config.model import TlsFiles
from pdbclient.gateway.server import Server as GatewayServer
from pdbclient.http.registry import ServerRegistry
from pdbclient.lab.ports import free_port
from pdbclient.observe.traffic import Traffic

__all__ = [
    "FACTS",
    "FACTS_URL",
    "GatewayProcess",
    "GatewayThread",
    "Told",
    "ask",
    "client_context",
    "connected",
    "eventually",
    "gateway_config",
    "notices",
    "submit",
    "write_config",
]

FACTS = json.dumps(
    {
        "certname": "node.example",
        "environment": "production",
        "values": {"a": 1},
        "producer_timestamp": "2026-01-31T12:00:00.000Z",
        "producer": "puppet.example",
    }
).encode()
FACTS_URL = "/pdb/cmd/v1?version=5&certname=node.example&command=replace_facts"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Told:
    """An answer of the gateway, the whole of it."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def server(self) -> int:
        """The port of the server that it says answered."""
        return int(self.headers["X-Pdbclient-Server"].rpartition(":")[2])


def client_context(tls: TlsFiles) -> ssl.SSLContext:
    """A client that trusts the CA of `tls` and presents its certificate, if there is one."""
    # Not `create_default_context`: from Python 3.13 on, it wants extensions that these certificates do not have.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tls.ca)
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def connected(port: int, tls: TlsFiles | ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A TLS connection to the gateway."""
    context = tls if isinstance(tls, ssl.SSLContext) else client_context(tls)
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname="localhost", session=session)
    except BaseException:
        plain.close()
        raise


def ask(
    port: int,
    tls: TlsFiles,
    target: str = "/pdb/query/v4/nodes",
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 20.0,
) -> Told:
    """One request on a connection of its own, by a client that adds nothing to what it is told."""
    connection = http.client.HTTPSConnection("localhost", port, context=client_context(tls), timeout=timeout)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        lines = dict(headers or {})
        if body is not None:
            lines.setdefault("Content-Length", str(len(body)))
        for name, value in lines.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Told(response.status, response.msg, response.read())
    finally:
        connection.close()


def submit(
    port: int, tls: TlsFiles, certname: str = "node.example", body: bytes | None = None, **headers: str
) -> Told:
    """Facts, as a terminus submits them; without a `body` those of `certname`."""
    if body is None:
        body = FACTS.replace(b"node.example", certname.encode())
    url = f"/pdb/cmd/v1?version=5&certname={certname}&command=replace_facts"
    lines = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return ask(port, tls, url, "POST", body, lines)


def eventually(done: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it is so within that time."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def gateway_config(config: ClientConfig, tls: TlsFiles, **changes: Any) -> ClientConfig:
    """`config` for a gateway with the certificate of `tls` that lets `client` in and checks no server by itself."""
    settings: dict[str, Any] = {
        # Not one that the kernel picks: it would pick it for another test, too, until the gateway listens there.
        "gateway_url": Endpoint("localhost", free_port()),
        "gateway_allow": ("client",),
        "gateway_health_interval": 600.0,
    }
    return replace(config, tls=tls, **(settings | changes))


class GatewayThread:
    """All of a gateway but its signals, in this process. Leaving the context stops it."""

    def __init__(self, config: ClientConfig) -> None:
        assert config.gateway_url is not None
        self.config = config
        self.port = config.gateway_url.port
        self._started = threading.Event()
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="gateway")
        self._thread.start()
        self._started.wait()
        if self._failed is not None:
            self._thread.join()
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def registry(self) -> ServerRegistry:
        """What it knows of its servers."""
        return self._site._upstream.registry

    @property
    def traffic(self) -> Traffic:
        """What it has counted."""
        return self._site._upstream.traffic

    @property
    def places_taken(self) -> int:
        """The requests that are being answered now."""
        app: Any = self._site._http.request_handler
        doors = app.__self__._doors.values()
        return sum(self._site._upstream.places - int(door._value) for door in doors)

    def stop(self) -> None:
        """End it as SIGTERM does, and wait for that."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def reload(self, config: ClientConfig, *, wait: bool = True) -> None:
        """Take over another configuration, as the daemon does; `wait` until the one before has ended."""
        future = asyncio.run_coroutine_threadsafe(self._replace(config), self._loop)
        ending = future.result(10)
        if wait:
            asyncio.run_coroutine_threadsafe(_ended(ending), self._loop).result(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            self._failed = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._site = GatewayServer.open(self.config)
        try:
            await self._site.prepare()
            await self._site.start()
            self._started.set()
            await self._over.wait()
        finally:
            await asyncio.gather(self._site.stop(), *self._tasks)

    async def _replace(self, config: ClientConfig) -> asyncio.Task[None]:
        new = GatewayServer.open(config, self._site)
        await new.prepare()
        await new.start()
        ending = asyncio.create_task(self._site.stop(new))
        self._tasks.append(ending)
        self._site, self.config = new, config
        return ending


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def write_config(path: Path, config: ClientConfig) -> Path:
    """`config` as a puppetdb.conf, with what the tests vary."""
    assert config.gateway_url is not None
    urls = ",".join(endpoint.url for endpoint in (config.gateway_url, *config.server_urls))
    settings = {
        "gateway_url": config.gateway_url.url,
        "gateway_allow": ", ".join(config.gateway_allow) or None,
        "gateway_health_interval": config.gateway_health_interval,
        "ssl_ca_cert": config.tls.ca,
        "ssl_cert": config.tls.cert,
        "ssl_key": config.tls.key,
        "ssl_crl": config.tls.crl,
        "connect_timeout": config.timeouts.connect,
        "read_timeout": config.timeouts.read,
        "operation_timeout": config.timeouts.operation,
    }
    lines = [f"{name} = {value}" for name, value in settings.items() if value is not None]
    path.write_text(f"[main]\nserver_urls = {urls}\n\n[pdbclient]\n" + "\n".join(lines) + "\n")
    return path


_PATCHED = """
{first}
import importlib, sys
for place, value in {patches!r}.items():
    module, _, name = place.rpartition(".")
    setattr(importlib.import_module(module), name, value)
from pdbclient.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class GatewayProcess:
    """`pdbclient gateway --config CONFIG` as a process. Leaving the context ends it, whatever its state.

    `patches` changes constants of its modules: `pdbclient.gateway.daemon.FILES_INTERVAL`, say. `first` is Python that
    it runs before anything else. `verbose`: it logs at debug level, too.
    """

    def __init__(
        self,
        config: Path,
        port: int,
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        patches: Mapping[str, float] | None = None,
        first: str = "",
        verbose: bool = False,
    ) -> None:
        self.port, self.log = port, log
        program = _PATCHED.format(first=first, patches=dict(patches or {}))
        self._command = [
            sys.executable,
            "-W",
            "always::ResourceWarning",
            "-c",
            program,
            *(["--verbose"] if verbose else []),
            "gateway",
            "--config",
            str(config),
        ]
        self._environment = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"} | dict(environment or {})

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, env=self._environment
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    def up(self) -> Self:
        """Wait until it serves."""
        self.said("listening at")
        return self

    def said(self, what: str, times: int = 1, seconds: float = 60.0) -> None:
        """Wait until it has logged that, so many times."""
        end = time.monotonic() + seconds
        while self.text.count(what) < times and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert self.text.count(what) >= times, self.text

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = 10.0) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(seconds)

    def peak(self) -> int:
        """The most memory that it ever had, in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def descriptors(self) -> list[str]:
        """What it has open."""
        held = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                held.append(os.readlink(entry))
        return sorted(held)

    def children(self) -> list[str]:
        """The pids of the processes that it has started, also of those that have ended unheard."""
        held = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                # After the name, which may have anything in it: the state and the parent.
                if stat.read_text().rpartition(")")[2].split()[1] == str(self.process.pid):
                    held.append(stat.parent.name)
        return held


@contextmanager
def notices(directory: Path, *, abstract: bool) -> Iterator[tuple[str, Callable[[], dict[str, str]]]]:
    """A socket like systemd's: its address for NOTIFY_SOCKET, and what waits for the next notice and reads it."""
    name = f"pdbclient-test-{os.getpid()}-{time.monotonic_ns()}"
    address = f"\0{name}" if abstract else str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(10)

        def read() -> dict[str, str]:
            lines = sock.recv(65536).decode().splitlines()
            return dict(line.split("=", 1) for line in lines)

        yield (f"@{name}" if abstract else address), read
