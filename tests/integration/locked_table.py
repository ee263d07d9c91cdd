"""A table of a real server's database, locked: what the server does meanwhile can be looked at at leisure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from pdbclient.errors import LabError
from pdbclient.lab import Lab

__all__ = ["locked"]

SLEEP = "select pg_sleep(600)"


@contextmanager
def locked(lab: Lab, name: str, table: str, mode: str) -> Iterator[None]:
    """PostgreSQL of the node `name` grants the lock before the block, and drops it after."""
    granted = (
        "select 1 from pg_locks join pg_stat_activity using (pid)"
        f" where granted and relation = '{table}'::regclass and query like '{SLEEP}%'"
    )
    end_it = f"select pg_terminate_backend(pid) from pg_stat_activity where query like '{SLEEP}%'"

    def hold() -> None:
        with suppress(LabError):  # how it ends, in any case
            lab.sql(name, f"begin; lock table {table} in {mode} mode; {SLEEP}", superuser=True)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        try:
            end = time.monotonic() + 30
            while not lab.sql(name, granted, superuser=True):
                assert time.monotonic() < end, f"{table} cannot be locked"
                time.sleep(0.1)
            yield
        finally:
            lab.sql(name, end_it, superuser=True)
