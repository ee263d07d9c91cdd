"""Configuration files -> frozen, checked values; every problem at once, as `file:line: setting: why`."""

from pdbclient.config.client_config import load_config
from pdbclient.config.journal_place import without_password
from pdbclient.config.model import ClientConfig, Endpoint, Remote, SyncConfig, Timeouts, TlsFiles
from pdbclient.config.sync_config import load_sync_config

__all__ = [
    "ClientConfig",
    "Endpoint",
    "Remote",
    "SyncConfig",
    "Timeouts",
    "TlsFiles",
    "load_config",
    "load_sync_config",
    "without_password",
]
