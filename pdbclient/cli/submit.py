"""`pdbclient submit …`: commands from files (payloads or Puppet's own), standard input or certnames."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pdbclient.cli import output, puppet_input
from pdbclient.cli.arguments import producer_timestamp, standard_input
from pdbclient.cli.clients import submitting_client
from pdbclient.cli.commands import HELP
from pdbclient.cli.servers import add_config_option
from pdbclient.client import Client, Submission
from pdbclient.errors import ConfigError, PdbError, Problem
from pdbclient.http.outcome import Attempt

__all__ = ["register"]

_DESCRIPTION = """\
Submit commands to the first PuppetDB of server_urls that takes them (or to all, with command_broadcast).
A file may be a ready payload or what Puppet itself writes, YAML or JSON; which one, it is seen by its content.
Payloads are checked against PuppetDB's wire format before they leave. What has no producer timestamp is
stamped once. One bad file does not stop the others; the exit code is that of the worst.

A uuid means: durable in the queue of the server named. It is applied, and visible to queries, soon after.

With --json, one entry for each input, in order: with `error` null and what became of it, or with `error`
and `exit_code` and no more. `servers` has each server that was to take it, in order, with the `uuid` that it gave or
the `error` that it met. When soft_write_failure lets a command go that no server took, `error` says so, and `server`
and `uuid` are null.
"""
_DEACTIVATE = """\
Mark nodes as deactivated, as of the producer timestamp. A newer command of the node, such as the facts of
its next run, makes it active again.
"""
_EXPIRATION = """\
Say whether the facts of nodes may expire: with --keep-facts, a node does not expire however old they are.
"""

_FILES = {
    "facts": (
        "replace facts",
        "a 'replace facts' payload, version 5",
        "Puppet's facts: `puppet facts find` or `show`, or the server's cache of facts. Their trusted data becomes "
        "that of a local node, and a fact of the name `trusted` is not believed",
    ),
    "catalog": (
        "replace catalog",
        "a 'replace catalog' payload, version 9",
        "Puppet's catalog: `puppet catalog compile`, or the answer of /puppet/v4/catalog",
    ),
    "inputs": ("replace catalog inputs", "a 'replace catalog inputs' payload, version 1", None),
    "report": (
        "store report",
        "a 'store report' payload, version 8",
        "Puppet's report, as its `store` processor writes it. Unchanged resources are left out unless "
        "include_unchanged_resources is set in puppetdb.conf",
    ),
}

_Job = tuple[str, Callable[[Client], Submission]]
_Entry = dict[str, Any]


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `submit` and a subcommand for each kind of command."""
    group = groups.add_parser(
        "submit",
        help=HELP["submit"],
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = group.add_subparsers(title="what to submit", metavar="KIND", required=True)
    for kind, (name, what, own) in _FILES.items():
        either = what if own is None else f"{what}, or Puppet's own {kind}"
        described = f"Submit files, each {what}, as JSON" + (f", or {own}" if own else "")
        description = f"{described}. See `pdbclient submit --help` for what a uuid means."
        parser = kinds.add_parser(kind, help=f"files, each {either}", description=description)
        parser.add_argument("files", nargs="+", metavar="FILE", help=f"{either}; - is standard input")
        parser.add_argument("--certname", metavar="CERTNAME", help="for files that name none")
        parser.set_defaults(run=_run, jobs=_from_files, command=name)
        puppet_input.add_options(parser, name)
        _add_common(parser)
    deactivate = kinds.add_parser("deactivate", help="mark nodes as deactivated", description=_DEACTIVATE)
    deactivate.set_defaults(run=_run, jobs=_from_certnames, command="deactivate node", payload={})
    expiration = kinds.add_parser(
        "expiration", help="say whether the facts of nodes may expire", description=_EXPIRATION
    )
    facts = expiration.add_mutually_exclusive_group(required=True)
    for option, expire, meaning in (("--expire-facts", True, "they may"), ("--keep-facts", False, "they may not")):
        payload = {"expire": {"facts": expire}}
        facts.add_argument(option, dest="payload", action="store_const", const=payload, help=meaning)
    expiration.set_defaults(run=_run, jobs=_from_certnames, command="configure expiration")
    for parser in (deactivate, expiration):
        parser.add_argument("certnames", nargs="+", metavar="CERTNAME", help="a node")
        _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--producer-timestamp",
        type=producer_timestamp,
        metavar="TIME",
        help="for payloads that have none: ISO-8601 with a zone (default: now)",
    )
    add_config_option(parser)
    output.add_json_option(parser)


def _run(args: argparse.Namespace) -> int:
    jobs: list[_Job] = args.jobs(args)
    entries: list[_Entry] = []
    codes = [0]
    with submitting_client(args.config) as client:
        try:
            with output.progress("submitting", len(jobs)) as advance:
                for subject, job in jobs:
                    entry, code = _submitted(client, subject, job)
                    entries.append(entry)
                    codes.append(code)
                    advance()
        finally:
            # Also after Ctrl-C: those are with a server. Whoever stopped reading does not change how it ended.
            with contextlib.suppress(BrokenPipeError):
                _print(entries, as_json=args.json)
    return max(codes)


def _submitted(client: Client, subject: str, job: Callable[[Client], Submission]) -> tuple[_Entry, int]:
    try:
        submission = job(client)
    except PdbError as error:
        # A problem of configuration names its file itself.
        output.note(f"pdbclient: {error}" if isinstance(error, ConfigError) else f"pdbclient: {subject}: {error}")
        code = output.exit_code(error)
        return {"input": subject, "error": str(error), "exit_code": code}, code
    if submission.error is not None:
        output.note(f"pdbclient: {subject}: no server took it, and soft_write_failure lets it go")
    if submission.journalled is not None:
        output.note(f"pdbclient: {subject}: no server took it; it is in the journal, to be delivered")
    return {"input": subject, **_shown(submission)}, 0


def _print(entries: list[_Entry], *, as_json: bool) -> None:
    if as_json:
        output.print_json(entries)
        return
    columns = ("certname", "command", "server", "uuid")
    done = [entry for entry in entries if "exit_code" not in entry]
    if done:
        output.print_table(columns, [[entry[column] for column in columns] for entry in done])


def _from_files(args: argparse.Namespace) -> list[_Job]:
    def job(file: str) -> _Job:
        def submit(client: Client) -> Submission:
            return client.submit(puppet_input.command_of(_read(file), args, client.config))

        return _named(file), submit

    return [job(file) for file in args.files]


def _from_certnames(args: argparse.Namespace) -> list[_Job]:
    def job(certname: str) -> _Job:
        payload, stamp = {"certname": certname, **args.payload}, {"producer_timestamp": args.producer_timestamp}
        return certname, lambda client: client.submit_payload(args.command, payload, **stamp)

    return [job(certname) for certname in args.certnames]


def _named(file: str) -> str:
    return "standard input" if file == "-" else file


def _read(file: str) -> bytes:
    try:
        return standard_input() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigError([Problem(_named(file), None, None, f"cannot be read: {error.strerror}")]) from error


def _shown(submission: Submission) -> _Entry:
    return {
        "error": None if submission.error is None else str(submission.error),
        "certname": submission.command.certname,
        "command": submission.command.name,
        "producer_timestamp": submission.command.producer_timestamp,
        "server": submission.endpoint and submission.endpoint.url,
        "uuid": submission.uuid,
        "journalled": submission.journalled,
        "servers": {attempt.endpoint.url: _met(attempt, submission) for attempt in submission.attempts},
        "failed_over": submission.failed_over,
        "warnings": list(submission.command.warnings),
    }


def _met(attempt: Attempt, submission: Submission) -> dict[str, str | None]:
    uuid = submission.uuids.get(attempt.endpoint)
    return {"uuid": uuid, "error": None if uuid is not None else attempt.met}
