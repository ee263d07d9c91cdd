"""The gateway: PuppetDB's own API on this machine, for an unmodified Puppet, with ordered failover behind it."""

from pdbclient.gateway.daemon import Gateway

__all__ = ["Gateway"]
