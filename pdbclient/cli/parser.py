"""The command line's grammar: argparse's, with options anywhere."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

__all__ = ["Parser"]


class Parser(ArgumentParser):
    """A parser that lets options stand between arguments: `submit facts a.json --config F b.json`.

    Plain argparse takes arguments from one place only, and calls the others unrecognized.
    """

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse. With `--`, which intermixed parsing loses, the plain way."""
        given: Sequence[str] = () if args is None else args
        if self._intermixing or self._subparsers is not None or "--" in given:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False
