"""`pdbclient doctor`: whether this host is set up well, and what to do where it is not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pdbclient.cli import output
from pdbclient.cli.commands import HELP
from pdbclient.doctor.model import Finding, Look, Role, Severity, Wish

__all__ = ["register"]

_DESCRIPTION = """\
Look at everything on this host that pdbclient needs, and at every server by its name, and say what is wrong, where,
and what to do. Nothing is changed. Run it as root: files are then looked at as the services' users, who may see less.

On a host with a gateway (role server): its unit, puppetdb.conf, certificates, each PuppetDB, the journal, whether
Puppet's own configuration leads to the gateway, and whether the gateway lets Puppet in, by the name that Puppet
calls it. Beside a PuppetDB (role puppetdb): its unit, the sync configuration, certificates, both servers and their
clocks, the times to live that must agree, and how the passes go, here and, as far as the servers show it, on the
other side.
"""
_EXIT_CODES = """\
exit codes:
  0  nothing is wrong
  1  there are problems: something does not work
  2  the command line is wrong, or there is no configuration to look at
  4  as 0, but there are warnings: something will not work before long, or is not meant so
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor`."""
    parser = groups.add_parser(
        "doctor",
        help=HELP["doctor"],
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--role",
        type=Role,
        choices=list(Role),
        metavar="ROLE",
        help="server (Puppet and the gateway) or puppetdb (the reconciler); by default what this host has",
    )
    parser.add_argument("--config", type=Path, metavar="PATH", help="puppetdb.conf (default: where Puppet looks)")
    parser.add_argument("--sync", type=Path, metavar="PATH", help="the sync configuration (default: the unit's)")
    parser.add_argument("--user", metavar="NAME", help="who the service runs as (default: as its unit says)")
    output.add_json_option(parser)
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    # Not before it is needed: it takes every part of pdbclient, which other commands need not wait for.
    from pdbclient.doctor.run import diagnose

    looks = diagnose(Wish(args.role, args.config, args.sync, args.user))
    findings = [finding for look in looks for finding in look.findings]
    problems = sum(finding.severity is Severity.PROBLEM for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    if args.json:
        roles = [{"role": look.role, "config": look.config, "findings": _plain(look)} for look in looks]
        output.print_json({"ok": not problems, "problems": problems, "warnings": warnings, "roles": roles})
    else:
        _print(findings)
        output.note(f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}")
    if problems:
        return 1
    return 4 if warnings else 0


def _plain(look: Look) -> list[dict[str, str]]:
    return [asdict(finding) for finding in look.findings]


def _print(findings: Sequence[Finding]) -> None:
    if not sys.stdout.isatty():
        output.print_table((), [(f.severity, f.code, f.where, f.what, f.do or None) for f in findings])
        return
    # A table of such texts would be all folds. What is well first: the end is what one sees.
    for finding in sorted(findings, key=lambda each: list(Severity).index(each.severity), reverse=True):
        sys.stdout.write(output.printable(f"{finding.severity:8} {finding.where}: {finding.what}") + "\n")
        if finding.do:
            sys.stdout.write(output.printable(f"         -> {finding.do} [{finding.code}]") + "\n")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
