"""PuppetDB's formats, pure: commands and their checks, queries, and query records turned into commands."""

from pdbclient.wire.check import VERSIONS
from pdbclient.wire.collector import Filter, InvalidQuery, filter_ast, parse_collector
from pdbclient.wire.command import Command, configure_expiration, deactivate_node
from pdbclient.wire.query import Ast, QueryText, exported_resources, parse_ast

__all__ = [
    "VERSIONS",
    "Ast",
    "Command",
    "Filter",
    "InvalidQuery",
    "QueryText",
    "configure_expiration",
    "deactivate_node",
    "exported_resources",
    "filter_ast",
    "parse_ast",
    "parse_collector",
]
