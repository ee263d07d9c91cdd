"""The configuration as the service's user reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import Facts, Finding
from pdbclient.errors import Problem

__all__ = ["check_settings"]


def check_settings(facts: Facts) -> Iterator[Finding]:
    """What is wrong with the files, what probably is, and that nothing else could be looked at, where so."""
    service = facts.service
    for problem in service.errors:
        code = "file-unreadable" if "may not be read by" in problem.why else "configuration"
        yield found(code, _where(problem), _why(problem), user=service.looked_as)
    for problem in service.warnings:
        yield found("configuration-doubtful", _where(problem), _why(problem))
    if service.unread:
        what = f"as {service.looked_as}, it cannot be used: the servers and the rest were not looked at"
        yield found("configuration", service.config, what)
    elif not service.errors:
        yield well("configuration", service.config, f"can be used by {service.looked_as}")


def _where(problem: Problem) -> str:
    return problem.file if problem.line is None else f"{problem.file}:{problem.line}"


def _why(problem: Problem) -> str:
    return problem.why if problem.setting is None else f"{problem.setting}: {problem.why}"
