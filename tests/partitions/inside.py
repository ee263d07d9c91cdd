"""Work of this process in another network namespace: a thread is there, and its sockets stay there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .leftovers import NAMESPACES

__all__ = ["inside"]

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(namespace: str, work: Callable[[], T]) -> T:
    """What `work` gives, or raises, done in a thread of its own in that network namespace.

    The files are ours, so a host goes by its address there. Raises `OSError` when there is no such namespace.
    """

    def entered() -> T:
        descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Python has it from 3.12 on.
            if _libc.setns(descriptor, _CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), namespace)
        finally:
            os.close(descriptor)
        return work()

    # The thread ends with the block: it never does anything else.
    with ThreadPoolExecutor(1, "partitions-inside") as pool:
        return pool.submit(entered).result()
