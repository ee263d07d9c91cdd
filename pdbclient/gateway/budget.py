"""How much memory the bodies of all requests may take together: whoever needs more than is left waits for it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["MemoryBudget", "Reservation"]


class MemoryBudget:
    """So many bytes for all bodies at once. Only for the event loop on which it is used.

    It may be a part `of` another one: what is taken of it is taken of that, too, and leaves the rest of that alone.
    """

    _whole: MemoryBudget

    def __init__(self, total: int, of: MemoryBudget | None = None) -> None:
        self._left = total
        self._of, self._whole = of, self if of is None else of._whole
        # Of the whole: some memory was given back; and how many requests have some and do not wait for more.
        self._freed = asyncio.Event()
        self._moving = 0

    def _took(self, size: int) -> bool:
        if size > self._left or (self._of is not None and not self._of._took(size)):
            return False
        self._left -= size
        return True

    async def _take(self, size: int) -> None:
        freed = self._whole._freed
        while not self._took(size):
            freed.clear()
            await freed.wait()

    def _give_back(self, size: int) -> None:
        self._left += size
        if self._of is not None:
            self._of._give_back(size)
        else:
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
        if self._held:
            self._budget._whole._moving -= 1
            self._budget._give_back(self._held)
            self._held = 0

    async def grow(self, size: int, patience: float) -> None:
        """Have `size` bytes in all. Raises `TimeoutError` when they do not become free within so many seconds.

        The last of those that have some does not wait, when all others of them do: they would wait for each other,
        and in vain.
        """
        more = size - self._held
        if more <= 0:
            return
        if not self._budget._took(more):
            # Only now, as a rule never: to begin and end a timer costs more than all the rest here.
            await self._wait_for(more, patience)
        if not self._held:
            self._budget._whole._moving += 1
        self._held = size

    async def _wait_for(self, more: int, patience: float) -> None:
        whole, has_some = self._budget._whole, self._held > 0
        whole._moving -= has_some
        try:
            async with asyncio.timeout(patience if whole._moving or not has_some else 0):
                await self._budget._take(more)
        finally:
            whole._moving += has_some
