"""What `pdbclient submit` makes of a file: a ready payload goes as it is, Puppet's own file is converted."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from pdbclient.config import ClientConfig
from pdbclient.errors import InvalidCommand
from pdbclient.terminus import puppet_file
from pdbclient.terminus.catalog import catalog_payload
from pdbclient.terminus.facts import facts_payload, facts_warnings
from pdbclient.terminus.puppet_file import Kind, PuppetFileError
from pdbclient.terminus.report import report_payload
from pdbclient.wire.command import Command

__all__ = ["add_options", "command_of"]

_KINDS = {"replace catalog": Kind.CATALOG, "replace facts": Kind.FACTS, "store report": Kind.REPORT}
_ENVIRONMENT = {
    "replace catalog": "the catalog's own",
    "replace facts": "none",
    "store report": "the report's own, which formats 1 and 2 do not have",
}
"""The default of the environment."""


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Give a subcommand of `submit` the options for what Puppet's own files lack, if `command` can be made of one."""
    if command in _KINDS:
        parser.add_argument(
            "--producer",
            metavar="CERTNAME",
            help="for Puppet's own files: the server they come from (default: the name of the client certificate's "
            "file in puppetdb.conf, without .pem, as Puppet names it)",
        )
        default = _ENVIRONMENT[command]
        parser.add_argument(
            "--environment", metavar="NAME", help=f"for Puppet's own files: the environment (default: {default})"
        )
    if command == "replace catalog":
        parser.add_argument(
            "--puppet-version",
            metavar="VERSION",
            type=_version,
            help="for Puppet's own files: that of the server's Puppet, which a catalog does not tell; 7 and 8 write "
            "a few rare characters otherwise in the key of a hash (default: 8)",
        )


def _version(text: str) -> str:
    if re.fullmatch(r"\d+(\.\w+)*", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no version of Puppet, for example 7.23.0 or 8")
    return text


def command_of(data: bytes, args: argparse.Namespace, config: ClientConfig) -> Command:
    """The command `args.command` for a file's content: JSON payloads byte for byte, all else converted.

    `args` are those of `submit`, with `certname` for what names none. Raises `InvalidCommand`.
    """
    given = {"certname": args.certname, "producer_timestamp": args.producer_timestamp, "now": datetime.now(UTC)}
    if args.command not in _KINDS:
        return Command.from_bytes(args.command, data, **given)
    try:
        file = puppet_file.read(data)
    except PuppetFileError as error:
        raise InvalidCommand(args.command, str(args.certname), "$", str(error)) from error
    if file.kind is Kind.PAYLOAD:
        if puppet_file.is_json(data):
            return Command.from_bytes(args.command, data, **given)
        return Command.create(args.command, file.document, **given)
    if file.kind is not _KINDS[args.command]:
        kind = file.kind.value
        reason = f"the file holds Puppet's {kind}: for that there is `pdbclient submit {kind}`"
        raise InvalidCommand(args.command, str(args.certname), "$", reason)
    payload, warnings = _converted(file.kind, file.document, args, config)
    command = Command.create(args.command, payload, **given)
    return replace(command, warnings=(*warnings, *command.warnings))


def _converted(
    kind: Kind, document: Mapping[str, object], args: argparse.Namespace, config: ClientConfig
) -> tuple[Mapping[str, object], tuple[str, ...]]:
    producer = _producer(config) if args.producer is None else args.producer
    if kind is Kind.REPORT:
        unchanged = config.include_unchanged_resources
        report = report_payload(
            document, producer=producer, environment=args.environment, include_unchanged_resources=unchanged
        )
        return report.payload, report.warnings
    if kind is Kind.CATALOG:
        return catalog_payload(
            document,
            producer=producer,
            environment=args.environment,
            include_edges=config.include_catalog_edges,
            puppet_version=args.puppet_version,
        ), ()
    if document["name"] is None:  # bare facts, as `puppet facts show` prints them
        document = {**document, "name": args.certname}
    return facts_payload(document, producer=producer, environment=args.environment), facts_warnings(document)


def _producer(config: ClientConfig) -> str | None:
    return None if config.tls.cert is None else config.tls.cert.stem
