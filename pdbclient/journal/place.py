"""Whether a journal can be where it is configured, as far as that shows without opening it, whoever looks."""

from __future__ import annotations

import importlib
from pathlib import Path

__all__ = ["driver_fault", "place_fault"]


def place_fault(location: str) -> str | None:
    """What keeps a journal from being at `location`, a file's path or a URL of PostgreSQL; None: nothing to be seen.

    Permissions are not looked at: they are the service's user's (`pdbclient config check`, run by that user, does).
    """
    if "://" in location:
        return driver_fault()
    path = Path(location)
    try:
        if path.is_dir():
            return f"{path} is a directory: name a file in it"
        if not path.parent.is_dir():
            return f"its directory {path.parent} does not exist: make it, for the user that the gateway runs as"
    except PermissionError:
        # It is there, and not for whoever looks.
        return None
    return None


def driver_fault() -> str | None:
    """Why PostgreSQL cannot be spoken to; None: it can."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        return f"needs psycopg, which cannot be loaded ({error}): pip install 'pdbclient[postgresql]'"
    return None
