"""`pdbclient gateway`: PuppetDB's API on this machine, with failover behind it, until stopped."""

from __future__ import annotations

import argparse
import logging

from pdbclient.cli.arguments import add_log_options
from pdbclient.cli.commands import HELP
from pdbclient.cli.servers import add_config_option
from pdbclient.config import load_config
from pdbclient.observe import logs

__all__ = ["register"]

_DESCRIPTION = """\
Speak PuppetDB's own API at `gateway_url` of puppetdb.conf, for an unmodified Puppet on this machine: commands and
queries go to the first of the other server_urls that is well. All processes of Puppet share what it knows of them,
so that an outage costs nobody a timeout twice.

With `gateway_status_port` it listens on that port of 127.0.0.1, too: a page for a browser, GET /status (the same as
JSON, which `pdbclient status` asks) and GET /metrics (Prometheus).

Clients need a certificate of Puppet's CA, and a certname in `gateway_allow` (default: the gateway's own).
SIGTERM and SIGINT end it after the requests under way; SIGHUP reads the configuration again, and keeps the old one
when the new one is wrong. Replaced certificates are noticed without a signal.
"""
_EXIT_CODES = """\
exit codes:
  0  ended by a signal
  1  cannot bind the address of gateway_url, or the status port: in use, or none of this machine's
  2  the configuration or the command line is wrong
  4  the journal cannot be used
"""


def register(groups: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `gateway`."""
    parser = groups.add_parser(
        "gateway",
        help=HELP["gateway"],
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_option(parser)
    add_log_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    # Not before it is needed: its HTTP server would take every other command as long to load as all the rest.
    from pdbclient.gateway import Gateway

    level = logging.DEBUG if args.verbose else logging.INFO
    logs.configure(args.log_config, json=args.log_format == "json", level=level)
    Gateway(lambda: load_config(args.config)).run()
    return 0
