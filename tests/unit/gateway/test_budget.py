"""The memory of all bodies together: who waits, who is refused, and that all of it comes back."""

from __future__ import annotations

import asyncio

import pytest

from pdbclient.gateway.budget import MemoryBudget, Reservation


def test_what_fits_is_there_at_once_and_comes_back() -> None:
    async def run() -> None:
        budget = MemoryBudget(100)
        for _ in range(3):
            with Reservation(budget) as one, Reservation(budget) as other:
                await one.grow(60, 0)
                await one.grow(50, 0)
                await other.grow(40, 0)
                with pytest.raises(TimeoutError):
                    await other.grow(41, 0)

    asyncio.run(run())


def test_who_needs_more_than_is_left_waits_until_it_is_given_back() -> None:
    async def run() -> None:
        budget, order = MemoryBudget(100), []

        async def body(name: str, size: int) -> None:
            with Reservation(budget) as memory:
                await memory.grow(size, 5)
                order.append(name)
                await asyncio.sleep(0)

        with Reservation(budget) as first:
            await first.grow(90, 0)
            others = [asyncio.create_task(body(name, size)) for name, size in (("b", 100), ("c", 20), ("d", 10))]
            for _ in range(5):
                await asyncio.sleep(0)
            assert order == ["d"], "it fits beside the first"
        await asyncio.gather(*others)
        assert sorted(order) == ["b", "c", "d"]
        with Reservation(budget) as last:
            await last.grow(100, 0)

    asyncio.run(run())


def test_what_a_cancelled_or_failed_request_had_comes_back() -> None:
    async def run() -> None:
        budget = MemoryBudget(100)

        async def body() -> None:
            with Reservation(budget) as memory:
                await memory.grow(70, 0)
                await asyncio.sleep(60)

        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async def fails() -> None:
            with Reservation(budget) as memory:
                await memory.grow(100, 0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        with Reservation(budget) as last:
            await last.grow(100, 0)

    asyncio.run(run())


def test_who_has_some_waits_for_more_while_another_one_does_not_wait() -> None:
    async def run() -> None:
        budget = MemoryBudget(100)
        with Reservation(budget) as one:
            await one.grow(60, 0)
            with Reservation(budget) as other:
                await other.grow(40, 0)
                grown = asyncio.create_task(one.grow(80, 5))
                await asyncio.sleep(0.01)
                assert not grown.done()
                with pytest.raises(TimeoutError):
                    # They would wait for each other.
                    await asyncio.wait_for(other.grow(50, 60), 5)
            await grown
        with Reservation(budget) as last:
            await last.grow(100, 0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(last.grow(101, 60), 5)

    asyncio.run(run())


def test_a_part_leaves_the_rest_of_the_whole_alone_and_is_no_more_than_what_is_left_of_it() -> None:
    async def run() -> None:
        whole = MemoryBudget(100)
        part = MemoryBudget(40, whole)
        with Reservation(part) as read, Reservation(whole) as command:
            await read.grow(40, 0)
            with pytest.raises(TimeoutError):
                await read.grow(41, 0)
            await command.grow(60, 0)
            with pytest.raises(TimeoutError):
                await command.grow(61, 0)
        with Reservation(whole) as command, Reservation(part) as read:
            await command.grow(90, 0)
            waiting = asyncio.create_task(read.grow(20, 5))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            command.__exit__(None, None, None)
            await waiting
        with Reservation(whole) as last:
            await last.grow(100, 0)

    asyncio.run(run())
