"""Services for Puppet's `base` provider, on a machine without systemd: what it is told to do is done and noted."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

__all__ = ["Service", "Services"]

_CLIENT = """\
#!{python} -IS
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect({socket!r})
    sock.sendall((" ".join(sys.argv[1:]) + "\\n").encode())
    sys.exit(int(sock.recv(4)))
"""
_PATIENCE = 60.0
_RELOADING = "try-reload-or-restart"


class Service(Protocol):
    """One service that can be started more than once."""

    def start(self) -> object: ...

    def running(self) -> bool: ...

    def stop(self) -> object: ...


@runtime_checkable
class Reloadable(Service, Protocol):
    """One that reads its configuration again when told to."""

    def reload(self) -> None: ...


class Services:
    """From entering it, `systemctl` in `bin_directory` starts, stops, reloads and asks for these services.

    It knows `start`, `stop`, `status` and `try-reload-or-restart`, with systemd's exit codes and nothing else of
    it: no units, no `enable`. At the end all of them are stopped; they are children of this process, and end with it.
    """

    def __init__(self, bin_directory: Path, services: Mapping[str, Service]) -> None:
        self.asked: list[tuple[str, str]] = []
        """What was asked for, in order, but for `status`."""
        self._services = services
        self._address = bin_directory / "systemctl.sock"
        self._server = _SocketServer(str(self._address), self._act)
        # The thread that starts a service is the one whose end would end it.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        client = bin_directory / "systemctl"
        client.write_text(_CLIENT.format(python=sys.executable, socket=str(self._address)))
        client.chmod(0o755)

    def __enter__(self) -> Services:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for service in self._services.values():
            if service.running():
                service.stop()
        self._server.shutdown()
        self._server.server_close()
        self._address.unlink()
        self._thread.join(_PATIENCE)

    def _act(self, action: str, name: str) -> int:
        service = self._services.get(name)
        if service is None:
            return 5
        if action == "status":
            return 0 if service.running() else 3
        self.asked.append((action, name))
        if action == "start":
            service.start()
        elif action == "stop":
            service.stop()
        elif action == _RELOADING:
            if service.running():
                assert isinstance(service, Reloadable)
                service.reload()
        else:
            return 1
        return 0


class _SocketServer(socketserver.UnixStreamServer):
    def __init__(self, address: str, act: Callable[[str, str], int]) -> None:
        self.act = act
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A service that cannot be started: its log says why, and the client hears of it by the end of the stream."""


class _Handler(socketserver.StreamRequestHandler):
    server: _SocketServer

    def handle(self) -> None:
        action, name = self.rfile.readline().decode().split()
        self.wfile.write(str(self.server.act(action, name)).encode())
