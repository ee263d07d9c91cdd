"""The durable log of submitted commands: store, delivery, recovery."""

from pdbclient.journal.journal import Journal
from pdbclient.journal.model import CopyState, Counts, Entry, EntryState

__all__ = ["CopyState", "Counts", "Entry", "EntryState", "Journal"]
