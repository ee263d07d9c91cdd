"""How a command of the program ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Ended"]


@dataclass(frozen=True)
class Ended:
    """Its exit code, and what it wrote to standard output and error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, where that is JSON. Raises `ValueError` where it is not."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Its output, where that is a table with a tab between columns."""
        return [line.split("\t") for line in self.out.splitlines()]
