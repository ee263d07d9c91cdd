"""Options that say with which programs a lab is built: those of `lab up` and of `demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pdbclient.lab import LabOptions

__all__ = ["add_program_options", "programs_given"]


def add_program_options(parser: argparse.ArgumentParser) -> None:
    """Add `--puppetdb-jar`, `--node-jar`, `--postgres-bin` and `--java`."""
    # No default stands here: an existing lab keeps its own values unless an option is given.
    parser.add_argument("--puppetdb-jar", type=Path, metavar="FILE", help="puppetdb.jar (default: the package's)")
    parser.add_argument(
        "--node-jar",
        action="append",
        type=_of_a_node,
        dest="node_jars",
        metavar="NODE=FILE",
        help="another puppetdb.jar for one node, to try an upgrade with; may be given several times",
    )
    parser.add_argument(
        "--postgres-bin", type=Path, metavar="DIR", help="where initdb is (default: the newest found)"
    )
    parser.add_argument(
        "--java",
        action="append",
        type=_of_any_node,
        dest="javas",
        metavar="[NODE=]FILE",
        help="the java of all nodes, or of one; may be given several times (default: $JAVA_HOME/bin/java, else java "
        "on PATH, else, where that is too old for a node's PuppetDB, the oldest in /usr/lib/jvm that is not)",
    )


def programs_given(args: argparse.Namespace, options: LabOptions) -> dict[str, Any]:
    """What these options of a command change in `options`: fields of `LabOptions`."""
    given = {
        name: getattr(args, name) for name in ("puppetdb_jar", "postgres_bin") if getattr(args, name) is not None
    }
    if args.node_jars is not None:
        given["node_jars"] = {**options.node_jars, **dict(args.node_jars)}
    if args.javas is not None:
        javas: dict[str, Path] = dict(args.javas)
        if "" in javas:
            given["java"] = javas.pop("")
        given["node_javas"] = {**options.node_javas, **javas}
    return given


def _of_a_node(text: str) -> tuple[str, Path]:
    name, sign, file = text.partition("=")
    if not (name and sign and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NODE=FILE")
    return name, Path(file)


def _of_any_node(text: str) -> tuple[str, Path]:
    """NODE=FILE, or FILE for all nodes: their name is "". A directory's name may have a `=`, a node's name no `/`."""
    name, sign, _ = text.partition("=")
    return _of_a_node(text) if sign and "/" not in name else ("", Path(text))
