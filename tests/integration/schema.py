"""Where PuppetDB's database has what tests look for by SQL: each release may keep it elsewhere."""

from __future__ import annotations

from pdbclient.lab import Lab

__all__ = ["flags_table", "history_table"]


def flags_table(lab: Lab, name: str) -> str:
    """The table with `certname`, `deactivated` and `expired` of each node of the server `name`."""
    # A table of their own from schema 88 (PuppetDB 8.8) on.
    return _first(lab, name, "certnames_status", "certnames")


def history_table(lab: Lab, name: str) -> str:
    """The table of which each day's reports are a partition."""
    # Schema 88 has the newest report of each node in a partition beside it, `reports_latest`.
    return _first(lab, name, "reports_historical", "reports")


def _first(lab: Lab, name: str, *tables: str) -> str:
    """The first of these tables that there is."""
    found = ", ".join(f"to_regclass('{table}')::text" for table in tables)
    ((table,),) = lab.sql(name, f"select coalesce({found})")
    return table
