"""`pdbclient terminus`: Puppet's own configuration, so that its stock terminus goes through pdbclient."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdbclient.cli import output
from pdbclient.cli.commands import HELP
from pdbclient.config import Endpoint
from pdbclient.config.puppet_conf import find_confdir
from pdbclient.config.settings import STOCK
from pdbclient.config.urls import parse_server_url
from pdbclient.errors import ConfigError
from pdbclient.puppet_setup import (
    GATEWAY_PORT,
    Action,
    Plan,
    Undone,
    Wanted,
    WantedSetting,
    plan_setup,
    undo,
    write,
)

__all__ = ["register"]

_DESCRIPTION = """\
Show, as a unified diff, what puppet.conf, routes.yaml and puppetdb.conf lack to make Puppet use PuppetDB
through pdbclient's gateway, and with --write change them. Nothing else in these files is touched: comments,
order, line ends, owners and modes stay. Each changed file is copied to FILE.pdbclient-backup-STAMP before.

puppet.conf gets storeconfigs, storeconfigs_backend and puppetdb among its reports: for a server in [server]
or [master], for `puppet apply` in [main]. puppetdb.conf gets the gateway as the first of server_urls, with
the PuppetDBs after it: when the gateway is down, Puppet goes on to them.

Settings that are wrong are refused. Files that they name may come later: when the files are as they are to be,
whatever `pdbclient config check` has to say of them here is told as warnings.
"""
_EPILOG = """\
exit codes, as of diff: 0 when everything is set up (with --write: now), 1 when changes are pending, 2 when a
file has problems, which are printed one a line, as file:line: setting: why; nothing is changed then. Of --undo:
1 also when a setting of the set-up was changed since, and so is left.

example:
  pdbclient terminus setup --server-urls https://primary:8081,https://replica:8081
  pdbclient terminus setup --server-urls https://primary:8081,https://replica:8081 --write
  pdbclient terminus setup --undo
"""

_NAME = re.compile(r"(?P<section>main|pdbclient)\.(?P<name>[a-z_]+)")
_OPTIONS = {"server_urls": "--server-urls", "gateway_url": "--gateway-url or --no-gateway"}


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `terminus` and its subcommand `setup`."""
    group = groups.add_parser(
        "terminus",
        help=HELP["terminus"],
        description="Puppet's own side: its configuration, so that the stock terminus goes through pdbclient.",
    )
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    setup = commands.add_parser(
        "setup",
        help="show or make the changes to Puppet's configuration, or undo them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    setup.add_argument("--confdir", type=Path, metavar="DIR", help="where puppet.conf is (default: as Puppet has it)")
    acts = setup.add_mutually_exclusive_group()
    acts.add_argument("--write", action="store_true", help="make the changes, after a backup of each file")
    acts.add_argument(
        "--undo",
        action="store_true",
        help="restore the files as they were before the latest --write; of one that was changed since, take back "
        "what --write did to it",
    )
    setup.add_argument(
        "--for",
        dest="target",
        choices=("server", "apply"),
        default="server",
        help="a Puppet server, or `puppet apply` (default: server)",
    )
    setup.add_argument(
        "--server-urls",
        type=_server_urls,
        metavar="URL,URL",
        help="the PuppetDBs in the order in which they are asked (default: those of puppetdb.conf)",
    )
    gateway = setup.add_mutually_exclusive_group()
    gateway.add_argument(
        "--gateway-url",
        type=_gateway_url,
        metavar="URL",
        help=f"where the gateway is, at port {GATEWAY_PORT} if it names none (default: that of puppetdb.conf, else "
        f"https://CERTNAME:{GATEWAY_PORT})",
    )
    gateway.add_argument("--no-gateway", action="store_true", help="let Puppet talk to the PuppetDBs themselves")
    setup.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=_setting,
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="a further setting of puppetdb.conf, as in pdbclient.journal=/var/lib/pdbclient/journal.db; repeatable",
    )
    setup.add_argument(
        "--unset",
        dest="settings",
        action="append",
        type=_no_setting,
        metavar="SECTION.NAME",
        help="a setting that puppetdb.conf is not to have; repeatable",
    )
    output.add_json_option(setup)
    setup.set_defaults(run=_setup)


def _gateway_url(text: str) -> Endpoint:
    # A URL without a port means 443 in puppetdb.conf, where the gateway's user may not listen.
    try:
        return parse_server_url(text, default_port=GATEWAY_PORT)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _server_urls(text: str) -> tuple[Endpoint, ...]:
    try:
        urls: tuple[Endpoint, ...] = STOCK["server_urls"].read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return urls


def _setting(text: str) -> WantedSetting:
    name, equals, value = text.partition("=")
    value = value.strip()
    # A line break would end the setting, and begin a line of somebody's choice.
    if not equals or not value or not value.isprintable():
        raise argparse.ArgumentTypeError("expected SECTION.NAME=VALUE on one line, as in main.server_url_timeout=30")
    return replace(_no_setting(name), value=value)


def _no_setting(text: str) -> WantedSetting:
    found = _NAME.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected main.NAME or pdbclient.NAME")
    if option := _OPTIONS.get(found["name"]):
        raise argparse.ArgumentTypeError(f"{text!r}: say it with {option}")
    return WantedSetting(found["section"], found["name"], None)


def _setup(args: argparse.Namespace) -> int:
    confdir = args.confdir or find_confdir()
    if args.undo:
        return _undo(confdir, as_json=args.json)
    wanted = Wanted(args.target, not args.no_gateway, args.gateway_url, args.server_urls, tuple(args.settings))
    try:
        plan = plan_setup(confdir, wanted)
    except ConfigError as error:
        if not args.json:
            raise
        output.print_json({"ok": False, "problems": [asdict(problem) for problem in error.problems]})
        return 2
    backups: list[Path | None] = [None] * len(plan.changes)
    if args.write:
        backups = write(plan, datetime.now(UTC))
    unusable = False
    if args.write or not plan.changes:
        plan, unusable = _checked(plan)
    if args.json:
        output.print_json(_document(plan, backups, written=args.write))
    elif args.write:
        rows = [(change.file, backup) for change, backup in zip(plan.changes, backups, strict=True)]
        output.print_table(("changed", "backup"), rows)
    else:
        _print_diffs(plan)
    for warning in plan.warnings:
        output.note(f"warning: {warning}")
    if unusable:
        output.note("pdbclient cannot use it like this: mend that until `pdbclient config check` ends with 0")
    return _conclude(plan, args)


def _checked(plan: Plan) -> tuple[Plan, bool]:
    """The plan, which is made now, with what `config check` says of puppetdb.conf; and whether that refuses it."""
    # Not before it is needed: what looks into certificates takes long to load.
    from pdbclient.doctor.configured import faults_of

    faults = faults_of(plan.confdir / "puppetdb.conf", datetime.now(UTC))
    more = [each for each in (*faults.errors, *faults.warnings) if each not in plan.warnings]
    return replace(plan, warnings=[*plan.warnings, *more]), bool(faults.errors)


def _conclude(plan: Plan, args: argparse.Namespace) -> int:
    if not plan.changes:
        output.note(f"{plan.confdir}: already set up")
        return 0
    if args.write:
        restart = "restart Puppet Server; " if args.target == "server" else ""
        output.note(f"set up; {restart}--undo restores the files")
        return 0
    output.note("nothing was changed; --write makes these changes")
    return 1


def _undo(confdir: Path, *, as_json: bool) -> int:
    files = undo(confdir)
    if as_json:
        output.print_json({"ok": True, "undone": [_undone_document(each) for each in files]})
    else:
        output.print_table(("file", "now"), [(each.file, each.action) for each in files])
        for each in files:
            for line in _differs(each):
                output.note(f"{each.file}: {line}")
        output.note("undone; restart Puppet Server, if one runs here")
    return 1 if any(each.taken_back.left for each in files) else 0


def _differs(undone: Undone) -> Iterator[str]:
    """In what a file is not as it was before the set-up, in lines."""
    if undone.action is Action.LEFT:
        yield "was removed since, and stays so"
    elif undone.action is Action.EDITED:
        parts = undone.taken_back
        yield f"was changed since; taken back: {', '.join(parts.undone) or 'nothing'}"
        if parts.kept:
            yield f"kept, as set since: {', '.join(parts.kept)}"
        if parts.left:
            yield f"not taken back, as changed since: {', '.join(parts.left)}: see whether it is right"
    if undone.backup is not None:
        yield f"as it was before the set-up, it is in {undone.backup}"


def _undone_document(undone: Undone) -> dict[str, Any]:
    parts = undone.taken_back
    return {
        "file": undone.file,
        "action": undone.action,
        "taken_back": parts.undone,
        "kept": parts.kept,
        "left": parts.left,
        "backup": undone.backup,
    }


def _print_diffs(plan: Plan) -> None:
    text = "".join(change.diff() for change in plan.changes)
    if sys.stdout.isatty():
        text = output.printable(text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _document(plan: Plan, backups: list[Path | None], *, written: bool) -> dict[str, Any]:
    return {
        "ok": True,
        "written": written and bool(plan.changes),
        "changes": [
            {
                "file": change.file,
                "exists": change.before is not None,
                "settings": [asdict(setting) for setting in change.settings],
                "diff": change.diff(),
                "backup": backup,
            }
            for change, backup in zip(plan.changes, backups, strict=True)
        ],
        "warnings": [asdict(warning) for warning in plan.warnings],
    }
