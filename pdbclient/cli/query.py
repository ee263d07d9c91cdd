"""`pdbclient query`, `exported` and `nodes`: questions to the first server that is well."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from pdbclient.cli import output
from pdbclient.cli.arguments import entity_path, not_negative, positive, seconds, standard_input
from pdbclient.cli.clients import asking_client
from pdbclient.cli.commands import HELP
from pdbclient.cli.servers import add_config_option
from pdbclient.client import QueryResult, Rows
from pdbclient.wire import InvalidQuery, QueryText, parse_ast, parse_collector

__all__ = ["register"]

_QUERY = """\
Ask PuppetDB a query, in PQL ('nodes { certname ~ "web" }') or AST ('["from","nodes"]'; with --path, the AST of
that entity's endpoint). An answer that breaks off is never printed as a short one: the next server is asked, or
the exit code says so. --lines reads answers of any size, row by row: there, check the exit code.
"""
_EXPORTED = """\
What a collector in the catalog of a node takes: the exported resources of a type, of all other active nodes.
FILTER is the collector's condition, as in a manifest: "tag == 'web' and title != '/etc/motd'".
"""
_NODES = """\
One row a node: when its facts, its catalog and its report last came, how the last run went, and since when it is
deactivated or expired, if it is. Nodes that wait to be purged are in --state any only.
"""
_QUERY_EXAMPLES = """\
examples:
  pdbclient query 'nodes { certname ~ "web" }'
  pdbclient query '["from", "nodes", ["~", "certname", "web"]]' --json
  pdbclient query --path facts '["=", "name", "kernel"]' --order-by certname --limit 10
  pdbclient query 'resources { type = "Package" }' --lines > packages.jsonl
"""
_EXPORTED_EXAMPLES = """\
examples:
  pdbclient exported Sshkey --for web1.example.com
  pdbclient exported File "tag == 'haproxy'" --for lb1.example.com --json
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `query`, `exported` and `nodes`."""
    query = groups.add_parser(
        "query",
        help=HELP["query"],
        description=_QUERY,
        epilog=_QUERY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    query.add_argument("query", metavar="QUERY", help="PQL, or AST when it begins with [; - reads it from stdin")
    query.add_argument(
        "--path",
        type=entity_path,
        metavar="ENTITY",
        help="nodes, resources, facts, … : what an AST query without from is about",
    )
    query.add_argument("--limit", type=positive, metavar="N", help="at most N rows")
    query.add_argument("--offset", type=not_negative, metavar="N", help="leave out the first N rows")
    query.add_argument(
        "--order-by", action="append", metavar="FIELD[:desc]", help="sort by a field; may be given several times"
    )
    form = query.add_mutually_exclusive_group()
    form.add_argument("--lines", action="store_true", help="one JSON row a line, as they come, in little memory")
    _add_common(query, _query, form)

    exported = groups.add_parser(
        "exported",
        help=HELP["exported"],
        description=_EXPORTED,
        epilog=_EXPORTED_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    exported.add_argument("type", metavar="TYPE", help="resource type: File, Foo::Bar")
    exported.add_argument("filter", nargs="?", metavar="FILTER", help="the collector's condition")
    exported.add_argument("--for", dest="certname", required=True, metavar="CERTNAME", help="the collecting node")
    _add_common(exported, _exported, exported)

    nodes = groups.add_parser(
        "nodes",
        help=HELP["nodes"],
        description=_NODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    nodes.add_argument(
        "--state",
        choices=("active", "inactive", "any"),
        default="active",
        help="inactive: deactivated or expired (default: active)",
    )
    _add_common(nodes, _nodes, nodes)


def _add_common(parser: argparse.ArgumentParser, run: Any, form: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds one server may take, its silence included"
    )
    add_config_option(parser)
    output.add_json_option(form)
    parser.set_defaults(run=run)


def _query(args: argparse.Namespace) -> int:
    query = _parsed(_standard_input() if args.query == "-" else args.query)
    path = args.path or ""
    paging = {
        "limit": args.limit,
        "offset": args.offset,
        "order_by": [_order(field) for field in args.order_by] if args.order_by else None,
    }
    paging = {key: value for key, value in paging.items() if value is not None}
    with asking_client(args.config) as client:
        if args.lines:
            timeout = {} if args.timeout is None else {"timeout": args.timeout}
            with client.stream(query, path=path, **timeout, **paging) as rows:
                _tell_source(rows)
                for row in rows:
                    output.print_json(row)
            return 0
        result = client.query(query, path=path, timeout=args.timeout, **paging)
    return _print(result, args)


def _exported(args: argparse.Namespace) -> int:
    condition = None if args.filter is None else parse_collector(args.filter)
    with asking_client(args.config) as client:
        result = client.exported_resources(args.type, condition, for_certname=args.certname, timeout=args.timeout)
    return _print(result, args, ("certname", "type", "title", "tags", "parameters"))


def _nodes(args: argparse.Namespace) -> int:
    with asking_client(args.config) as client:
        result = client.query(
            ["=", "node_state", args.state], path="nodes", order_by=[{"field": "certname"}], timeout=args.timeout
        )
    columns = ("certname", "facts_timestamp", "catalog_timestamp", "report_timestamp", "latest_report_status")
    return _print(result, args, (*columns, "deactivated", "expired"))


def _standard_input() -> str:
    try:
        return standard_input().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidQuery(f"the query on standard input is not UTF-8: {error.reason}") from error


def _parsed(text: str) -> QueryText:
    return parse_ast(text) if text.lstrip().startswith("[") else text


def _order(field: str) -> dict[str, str]:
    name, _, order = field.partition(":")
    if order not in ("", "asc", "desc"):
        raise InvalidQuery(f"--order-by {field}: after the colon comes asc or desc")
    return {"field": name, "order": order or "asc"}


def _tell_source(result: QueryResult | Rows) -> None:
    """Say so when the answer is not the first server's, or may lack something."""
    if result.failed_over:
        before = "; ".join(map(str, result.attempts[:-1])) or "the first server lacks what was written past it"
        output.note(f"answered by {result.endpoint}: {before}")
    if result.freshness.stale:
        output.note(f"{result.endpoint} may lack {result.freshness.missing} commands that another server accepted")


def _print(result: QueryResult, args: argparse.Namespace, columns: Sequence[str] | None = None) -> int:
    _tell_source(result)
    if args.json:
        output.print_json(list(result))
        return 0
    if not result and sys.stdout.isatty():
        output.note("nothing found")
        return 0
    rows = [row if isinstance(row, dict) else {"value": row} for row in result]
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    output.print_table(columns, [[_cell(row.get(column)) for column in columns] for row in rows])
    return 0


def _cell(value: Any) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
