"""Which commands there are: the module of this package that has each, and its line in the list of them.

Apart from the modules, which import a lot: what a command line does not name is not imported for it.
"""

from __future__ import annotations

__all__ = ["HELP", "MODULES"]

MODULES = {
    "submit": ("submit",),
    "query": ("query", "exported", "nodes"),
    "servers": ("status",),
    "config": ("config",),
    "gateway": ("gateway",),
    "journal": ("journal",),
    "recover": ("recover",),
    "terminus": ("terminus",),
    "sync": ("sync",),
    "lab": ("lab",),
    "demo": ("demo",),
}
"""The modules, in the order of the list, and the commands that `register` of each adds to it."""

HELP = {
    "submit": "submit facts, catalogs, catalog inputs, reports, deactivations, fact expiration",
    "query": "ask a query in PQL or AST",
    "exported": "the exported resources a node would collect",
    "nodes": "the nodes PuppetDB knows, and when each was last heard of",
    "status": "health of every server, and who is asked next",
    "config": "check the configuration and show what is in force",
    "gateway": "PuppetDB's API on this machine, for Puppet itself, with failover behind it",
    "journal": "look at the log of accepted commands, and mend it",
    "recover": "send a server what it lacks, from the journal",
    "terminus": "set Puppet up to use PuppetDB through pdbclient",
    "sync": "pull what is missing here from the peers, once or for good",
    "lab": "a real PuppetDB pair on this machine",
    "demo": "see it work: a story on a real pair",
}
"""The line of each command."""
