"""What the documentation shows in blocks, for the tests that run or load all of it.

A block of commands (`sh`, `python`) has a comment before it, `<!-- run: NAME -->`, which says who runs it:

- `pair`, `sync`, `recover`: tests/integration/test_documentation_pair.py, on a real pair
- `journal`: tests/unit/cli/test_cli_documentation.py, on a journal with entries of every kind
- `host`, `lab`: tests/integration/test_documentation_path.py (soak), on a fresh Debian
- `venv`: tests/integration/test_debian_package.py (soak)
- `make`: that these targets are there is what is tested
- `redhat`: what needs a system of Red Hat's, which no test has
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HOST_PAGES", "PAGES", "ROOT", "RUNS", "Block", "blocks", "commands", "pdbclient_commands", "spans"]

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
]
RUNS = {"pair", "sync", "recover", "journal", "host", "venv", "lab", "make", "redhat"}
HOST_PAGES = (
    "docs/install/packages.md",
    "docs/install/puppetdb.md",
    "docs/install/puppet-server.md",
    "docs/install/check.md",
    "docs/operate/gateway.md",
    "docs/operate/monitoring.md",
    "docs/install/puppet-apply.md",
    "docs/operate/upgrade-pdbclient.md",
)
"""Those with blocks for `host`, in the order in which an administrator comes to them."""

_BLOCK = re.compile(
    r"^(?:<!-- run: (?P<run>\S+) -->\n)?(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_INCLUDED = re.compile(r'^--8<-- "(.+)"\n', re.M)
_SPAN = re.compile(r"`([^`\n]+)`")
_BEGINS = {"--", "|", "||", "&&", ";"}
_ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `run` says who runs it, if anybody."""

    page: str
    line: int
    language: str
    run: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(language: str = "", run: str = "") -> list[Block]:
    """All of them, in the order of pages and lines; those in one language or for one run."""
    found = [block for page in PAGES for block in _blocks(page)]
    return [each for each in found if language in ("", each.language) and run in ("", each.run)]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        indent = len(found["indent"])
        lines = "".join(line[indent:] for line in found["text"].splitlines(keepends=True))
        lines = _INCLUDED.sub(lambda file: (ROOT / file[1]).read_text(), lines)
        line = text.count("\n", 0, found.start("text"))
        yield Block(str(page.relative_to(ROOT)), line, found["language"], found["run"], lines)


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block, without its comments."""
    joined = text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def pdbclient_commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each `pdbclient` that a block of commands calls."""
    for words in commands(block.text):
        for place, word in enumerate(words):
            if word == "pdbclient" and (place == 0 or words[place - 1] in _BEGINS):
                rest = words[place + 1 :]
                ends = next((number for number, each in enumerate(rest) if each in _ENDS), len(rest))
                yield rest[:ends]


def spans() -> Iterator[tuple[str, str]]:
    """Page and text of all that is marked as code within a line."""
    for page in PAGES:
        text = _BLOCK.sub("", page.read_text())
        yield from ((str(page.relative_to(ROOT)), found) for found in _SPAN.findall(text))
