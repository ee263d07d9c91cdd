"""A server far away: a TCP proxy in a process of its own, through which all connections share one link.

    python -m tests.bench.load.far PORT SECONDS BYTES

It connects to PORT on loopback. The round trip takes SECONDS, and BYTES a second pass each way. The handshake of TCP
takes a round trip, too; its slow start is not imitated. The first line of its output is its own port; each line that
it is sent has it print how many bytes have passed to the server and from it, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

__all__ = ["FarAway", "far_away"]

_CHUNK = 16_384


class _Way:
    """One direction of the link."""

    def __init__(self, delay: float, rate: float) -> None:
        self.passed = 0
        self._delay, self._rate = delay, rate
        self._free = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the sender ends."""
        loop = asyncio.get_running_loop()
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(arriving, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                self.passed += len(chunk)
                self._free = max(loop.time(), self._free) + len(chunk) / self._rate
                arriving.put_nowait((self._free + self._delay, chunk))
                await asyncio.sleep(self._free - loop.time())
        finally:
            arriving.put_nowait((loop.time() + self._delay, b""))
            await delivering

    async def _deliver(self, arriving: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await arriving.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


async def _serve(port: int, round_trip: float, rate: float) -> None:
    there, back = (_Way(round_trip / 2, rate) for _ in range(2))

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await asyncio.sleep(round_trip)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(there.carry(reader, server_writer), back.carry(server_reader, writer))
            server_writer.close()
        writer.close()

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"to": there.passed, "back": back.passed}), flush=True)


@dataclass(frozen=True, slots=True)
class FarAway:
    """The proxy that listens on `port`; its link carries `rate` bytes a second."""

    port: int
    rate: float
    _to: IO[str]
    _from: IO[str]

    def passed(self) -> tuple[int, int]:
        """How many bytes have passed to the server, and from it."""
        self._to.write("\n")
        self._to.flush()
        counted = json.loads(self._from.readline())
        return counted["to"], counted["back"]


@contextmanager
def far_away(port: int, round_trip: float, rate: float) -> Iterator[FarAway]:
    """The server at `port` of loopback, from so far away (s, bytes a second)."""
    command = [sys.executable, "-m", "tests.bench.load.far", str(port), str(round_trip), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield FarAway(int(process.stdout.readline()), rate, process.stdin, process.stdout)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
