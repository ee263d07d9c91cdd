"""The command line's grammar: argparse's, with options anywhere."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any, Never

__all__ = ["Parser"]


class Parser(ArgumentParser):
    """A parser that lets options stand between arguments: `submit facts a.json --config F b.json`.

    Plain argparse takes arguments from one place only, and calls the others unrecognized.

    `wrong` takes what is wrong with a command line of this command, and exits, where not as argparse does.
    """

    _intermixing = False

    def __init__(self, *args: Any, wrong: Callable[[str], Never] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wrong = wrong
        if wrong is not None:
            # What is before the command, or left over after it, only the parser of the whole line sees.
            self.set_defaults(wrong=wrong)

    def error(self, message: str) -> Never:
        """As in argparse, or `wrong`."""
        if self._wrong is not None:
            self._wrong(message)
        super().error(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, with `wrong` of the command for what nobody knows."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(found, "wrong", self.error)(f"unrecognized arguments: {' '.join(unknown)}")
        return found

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
