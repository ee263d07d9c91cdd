"""A report posted by Puppet's `http` report processor -> the command that stores it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pdbclient.gateway.intake import Refused
from pdbclient.terminus import puppet_file
from pdbclient.terminus.puppet_file import Kind, PuppetFileError
from pdbclient.terminus.report import report_payload
from pdbclient.wire import Command

__all__ = ["report_command"]


def report_command(body: bytes, *, producer: str, include_unchanged: bool, now: datetime) -> Command:
    """The `store report` for a report of `producer`, in the YAML that Puppet posts, or in JSON.

    `include_unchanged` keeps resources that nothing happened to. Raises `Refused` for what is no report, and
    `InvalidCommand` for a report that PuppetDB would refuse.
    """
    try:
        file = puppet_file.read(body)
    except PuppetFileError as error:
        raise Refused(400, f"the body is no report of Puppet's: {error}") from error
    if file.kind is not Kind.REPORT:
        raise Refused(400, "the body is no report of Puppet's: it has no report format and resource statuses")
    report = report_payload(file.document, producer=producer, include_unchanged_resources=include_unchanged)
    command = Command.create("store report", report.payload, now=now)
    return replace(command, warnings=(*report.warnings, *command.warnings))
