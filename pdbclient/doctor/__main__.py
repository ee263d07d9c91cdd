"""One look as the user that this process runs as: `python -m pdbclient.doctor ROLE [CONFIG]`; the facts as JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from pdbclient.doctor.gather.service import look
from pdbclient.doctor.model import Role

__all__: list[str] = []


def _main(role: str, config: str | None = None) -> None:
    facts = look(Role(role), None if config is None else Path(config))
    sys.stdout.buffer.write(msgspec.json.encode(facts))


if __name__ == "__main__":
    _main(*sys.argv[1:])
