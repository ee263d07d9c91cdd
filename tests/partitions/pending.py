"""How much is pending in a journal, as a process on the host of a gateway sees it.

    python -m tests.partitions.pending JOURNAL

Prints one number: the deliveries that are still to be made.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Look, beside whoever has it open."""
    with Journal.open(argv[0], beside=True) as journal:
        print(sum(journal.run(entries.counts).pending.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
