"""How much memory the bodies of all requests may take together: whoever needs more than is left waits for it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["MemoryBudget", "Reservation"]


class MemoryBudget:
    """So many bytes for all bodies at once. Only for the event loop on which it is used."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._freed = asyncio.Event()

    def _took(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    async def _take(self, size: int) -> None:
        while not self._took(size):
            self._freed.clear()
            await self._freed.wait()

    def _give_back(self, size: int) -> None:
        self._left += size
        self._freed.set()


class Reservation:
    """What one request has taken of a budget: a context that gives all of it back."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self._held = budget, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._give_back(self._held)
        self._held = 0

    async def grow(self, size: int, patience: float) -> None:
        """Have `size` bytes in all. Raises `TimeoutError` when they do not become free within so many seconds.

        A request that has some already does not wait: two that wait for each other's would wait in vain.
        """
        more = size - self._held
        if more <= 0:
            return
        if not self._budget._took(more):
            # Only now, as a rule never: to begin and end a timer costs more than all the rest here.
            async with asyncio.timeout(0 if self._held else patience):
                await self._budget._take(more)
        self._held = size
