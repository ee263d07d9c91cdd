"""What tests do in PuppetDB's database by SQL, wherever a release keeps what they look for."""

from __future__ import annotations

from pdbclient.lab import Lab

__all__ = ["close_connections", "flags_table", "history_table"]


def flags_table(lab: Lab, name: str) -> str:
    """The table with `certname`, `deactivated` and `expired` of each node of the server `name`."""
    # A table of their own from schema 88 (PuppetDB 8.8) on.
    return _first(lab, name, "certnames_status", "certnames")


def history_table(lab: Lab, name: str) -> str:
    """The table of which each day's reports are a partition."""
    # Schema 88 has the newest report of each node in a partition beside it, `reports_latest`.
    return _first(lab, name, "reports_historical", "reports")


def close_connections(lab: Lab, name: str) -> None:
    """Have PostgreSQL close every connection that the server `name` has, as a stop of it does."""
    theirs = "usename is not null and usename <> 'postgres'"
    lab.sql(name, f"select pg_terminate_backend(pid) from pg_stat_activity where {theirs}", superuser=True)


def _first(lab: Lab, name: str, *tables: str) -> str:
    """The first of these tables that there is."""
    found = ", ".join(f"to_regclass('{table}')::text" for table in tables)
    ((table,),) = lab.sql(name, f"select coalesce({found})")
    return table
