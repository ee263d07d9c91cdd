"""Asking a daemon on its status port."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlencode

from pdbclient.errors import StatusError
from pdbclient.observe.page.document import Document, decode

__all__ = ["ADDRESS", "ask_for_pass", "read_document"]

ADDRESS = "127.0.0.1"
"""Where status ports are: on this machine, and nowhere else."""
PATIENCE = 10.0
"""Seconds that an answer may take."""


def read_document(port: int, command: str) -> Document:
    """What the daemon at `port` tells; `command` is what starts it.

    Raises `StatusError` when no daemon answers there, or it cannot tell.
    """
    status, body = _asked("GET", "/status", port, command)
    try:
        if status == 200:
            return decode(body)
        why = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(port, error) from error
    raise StatusError(f"the daemon at {ADDRESS} port {port} cannot tell: {why}")


def ask_for_pass(port: int, remote: str | None) -> list[str]:
    """Ask the reconciler at `port` for a pass against `remote` (None: all); against which it will make one.

    Raises `StatusError` when no daemon answers there, or it refuses.
    """
    path = "/trigger" + (f"?{urlencode({'remote': remote})}" if remote else "")
    status, body = _asked("POST", path, port, "pdbclient sync run")
    try:
        document = json.loads(body)
        if status == 202:
            return [str(each) for each in document["triggered"]]
        why = document["error"]
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(port, error) from error
    raise StatusError(f"the daemon at {ADDRESS} port {port} refused: {why}")


def _asked(method: str, path: str, port: int, command: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=PATIENCE)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionRefusedError as error:
        where = f"{ADDRESS} port {port}"
        raise StatusError(f"no daemon listens on {where}: is `{command}` running, with this status port?") from error
    except (OSError, http.client.HTTPException) as error:
        raise _foreign(port, error) from error
    finally:
        connection.close()


def _foreign(port: int, error: Exception) -> StatusError:
    return StatusError(f"what listens on {ADDRESS} port {port} does not answer as a daemon does: {error}")
