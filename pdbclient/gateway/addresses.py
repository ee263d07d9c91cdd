"""What the gateway does with a request, by its method and path: pass it on, or refuse it as a PuppetDB would. Pure.

Measured on PuppetDB 7.12.1, 8.4.1 and 8.8.1. Where they differ, this is 8.8.1: it says 404 where those before 8.5
redirect to their dashboard.
"""

from __future__ import annotations

import enum
import html
import re
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = ["COMMAND_PATH", "METRICS_PATH", "NOT_FOUND", "QUERY_PATH", "REPORT_PATH", "Goal", "Refusal", "goal"]

COMMAND_PATH = "/pdb/cmd/v1"
QUERY_PATH = "/pdb/query/v4"
REPORT_PATH = "/pdbclient/v1/report"
METRICS_PATH = "/pdbclient/v1/metrics"

_TEXT, _HTML, _JETTY_HTML = "text/plain", "text/html;charset=utf-8", "text/html;charset=iso-8859-1"
_RETIRED = re.compile(r"/pdb/query/(v[123])").match
# A segment that leads up, or nowhere, once what stands after its semicolon is taken off: what Jetty refuses.
_AMBIGUOUS = re.compile(r"/(\.|%2e){1,2};", re.ASCII | re.IGNORECASE).search


class Goal(enum.Enum):
    """Where a request goes."""

    COMMAND = "a command"
    NO_COMMAND = "below the commands, where there is none"
    REPORT = "a report"
    METRICS = "the gateway's own metrics"
    SERVER = "passed on to a PuppetDB as it is"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that goes nowhere."""

    status: int
    body: str
    content_type: str = _TEXT


NOT_FOUND = Refusal(404, "Not Found", _HTML)
"""What PuppetDB says to an unknown address below /pdb."""
_AMBIGUOUS_PATH = Refusal(400, "<h1>Bad Message 400</h1><pre>reason: Ambiguous path parameters</pre>", _JETTY_HTML)
_NO_DASHBOARD = Refusal(
    404, "The gateway does not pass on the dashboard, which shows one server: open it at that PuppetDB itself.\n"
)
_NO_ADMIN = Refusal(
    404, "The gateway does not pass on /pdb/admin, which is about one server: ask that PuppetDB itself.\n"
)
_NO_QUERY_METHOD = Refusal(400, "PuppetDB queries must be made via GET/POST")


def goal(method: str, path: str) -> Goal | Refusal:
    """What is done with a request for this path, as it came, without its query string."""
    if path == COMMAND_PATH:
        return Goal.COMMAND
    if _AMBIGUOUS(path):
        return _AMBIGUOUS_PATH
    if path in (REPORT_PATH, METRICS_PATH):
        return Goal.REPORT if path == REPORT_PATH else Goal.METRICS
    if path == "/" and method == "GET":
        return _NO_DASHBOARD
    if _is_at_or_below(path, "/pdb"):
        return _below_pdb(method, path) if _is_plain(path) else NOT_FOUND
    if _is_plain(path):
        if path.startswith("/metrics/v2"):
            return Goal.SERVER if method in ("GET", "POST") else _forbidden(method, path)
        if path.startswith(("/status/v1/services", "/status/v1/simple")) and method == "GET":
            return Goal.SERVER
        if path == "/status" or path.startswith(("/status/", "/status;")):
            return _nowhere(path) if method == "GET" and path.startswith("/status/v1") else _forbidden(method, path)
    return _nowhere(path)


def _below_pdb(method: str, path: str) -> Goal | Refusal:
    if _is_at_or_below(path, "/pdb/cmd"):
        return Goal.NO_COMMAND
    if _is_at_or_below(path, QUERY_PATH):
        return Goal.SERVER if method in ("GET", "POST") else _NO_QUERY_METHOD
    if retired := _RETIRED(path):
        return Refusal(404, f"The {retired[1]} API has been retired; please use v4")
    if path.startswith("/pdb/meta/v1/"):
        # PuppetDB heeds no method there.
        return Goal.SERVER
    if _is_at_or_below(path, "/pdb/admin"):
        return _NO_ADMIN
    if _is_at_or_below(path, "/pdb/dashboard") or (path in ("/pdb", "/pdb/") and method in ("GET", "HEAD")):
        return _NO_DASHBOARD
    return NOT_FOUND


def _is_at_or_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _is_plain(path: str) -> bool:
    """Whether the path means what it seems to: no way up, not even an encoded one, or one with parameters."""
    return not {".", ".."} & {segment.partition(";")[0] for segment in unquote(path).split("/")}


def _forbidden(method: str, path: str) -> Refusal:
    # Not asked for: the server's 403 would pass for one that our certificate met, and shut it out.
    return Refusal(403, f"Forbidden request: {path} (method :{method.lower()})\n")


def _nowhere(path: str) -> Refusal:
    body = f"<html><body><h2>HTTP ERROR 404 Not Found</h2><p>{html.escape(path)}</p></body></html>\n"
    return Refusal(404, body, _HTML)
