"""A random schedule of faults on a network of hosts, under work whose history is checked. Needs root.

    python -m tests.partitions --seed N --minutes M [--arrangement postgresql|sqlite|both]
        [--front gateway|stock|haproxy] [--off journal-sync|verification|freshness] [--only NEMESIS,...]
        [--puppet SECONDS] [--replay FILE] [--shrink FILE] [--keep DIR] [--json FILE] [--html FILE]

Ends with one JSON line for each arrangement. Exit 0: no violations, 1: violations, 2: the run itself failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pdbclient.lab.options import LabOptions, find_programs

from .checkers import Violation, check
from .configuration import URL_TIMEOUT
from .nemeses import NEMESES
from .page import page
from .report import About, document, summary
from .run import choices, play
from .schedule import Schedule, draw, dump, load
from .shrink import shrink
from .work import Work
from .world import Arrangement, Front, Safety, World

__all__ = ["Options", "Result", "directory_for", "main", "run"]

BOTH = "both"
TRIES = 12
"""Runs that shrinking may take."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be run; `replay`, of `file`, instead of a random schedule."""

    seed: int
    minutes: float
    arrangement: Arrangement = Arrangement.SHARED
    front: Front = Front.GATEWAY
    off: frozenset[Safety] = frozenset()
    only: tuple[str, ...] = ()
    replay: Schedule | None = None
    databases: int = 2
    file: Path | None = None
    puppet_pause: float | None = None

    @classmethod
    def of(cls, path: Path) -> Options:
        """A schedule that was saved, with the arrangement and the front that it is for. Raises `ValueError`."""
        schedule, saved = load(path.read_text())
        arrangement = Arrangement(str(saved.get("arrangement", Arrangement.SHARED)))
        front = Front(str(saved.get("front", Front.GATEWAY)))
        return cls(schedule.seed, schedule.seconds / 60, arrangement, front, replay=schedule, file=path)

    def again(self) -> str:
        """The command that does the same."""
        words = ["python -m tests.partitions"]
        words += (
            [f"--seed {self.seed} --minutes {self.minutes:g}"] if self.file is None else [f"--replay {self.file}"]
        )
        words += [f"--arrangement {self.arrangement} --front {self.front}", *(f"--off {each}" for each in self.off)]
        words += [f"--only {','.join(self.only)}"] if self.only else []
        words += [f"--databases {self.databases}"] if self.databases != 2 else []
        words += [f"--puppet {self.puppet_pause:g}"] if self.puppet_pause is not None else []
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Result:
    """A run: what it was, all that is wrong, and the reports of it."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    line: Mapping[str, Any]
    document: Mapping[str, Any]
    page: str


def run(options: Options, directory: Path) -> Result:
    """One run in one world, whose files are in `directory`. Raises what the world raises, or `RunFailed`."""
    gateways = options.front is Front.GATEWAY
    with World.up(
        directory / "world", options.arrangement, databases=options.databases, front=options.front, off=options.off
    ) as world:
        schedule = options.replay or draw(options.seed, options.minutes, choices(world, NEMESES, options.only))
        (directory / "schedule.json").write_text(dump(schedule, arrangement=options.arrangement, front=options.front))
        work = Work(
            find_programs(LabOptions()).puppetdb_jar,
            options.seed,
            seconds=URL_TIMEOUT,
            puppet_pause=options.puppet_pause,
        )
        shared = options.arrangement is Arrangement.SHARED
        evidence = play(world, NEMESES, schedule, work, directory, gateways=gateways, shared=shared, say=_say)
    violations = check(evidence)
    about = About(options.arrangement, options.front, tuple(sorted(options.off)), options.again())
    told = document(about, schedule, evidence, violations)
    return Result(
        schedule, violations, summary(about, schedule, evidence, violations), told, page(told, evidence, violations)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run as the command line says."""
    args = _parser().parse_args(argv)
    more: dict[str, Any] = {
        "off": frozenset(Safety(name) for name in args.off),
        "databases": args.databases,
        "puppet_pause": args.puppet,
    }
    if args.replay is not None:
        front: dict[str, Any] = {} if args.front is None else {"front": Front(args.front)}
        return _one(replace(Options.of(args.replay), **more, **front), args, "")
    both = args.arrangement == BOTH
    worst = 0
    for each in Arrangement if both else [Arrangement(args.arrangement)]:
        only = tuple(filter(None, args.only.split(",")))
        options = Options(args.seed, args.minutes, each, Front(args.front or Front.GATEWAY), only=only, **more)
        worst = max(worst, _one(options, args, f"-{each}" if both else ""))
    return worst


def _one(options: Options, args: argparse.Namespace, suffix: str) -> int:
    with directory_for(args.keep, suffix) as directory:
        try:
            result = run(options, directory)
            (directory / "report.json").write_text(json.dumps(result.document, indent=1))
            (directory / "report.html").write_text(result.page)
            for path, text in ((args.json, json.dumps(result.document, indent=1)), (args.html, result.page)):
                if path is not None:
                    path.with_stem(path.stem + suffix).write_text(text)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is known of what was to be tested
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"
            print(json.dumps({"partitions": options.arrangement, "seed": options.seed, "failed": failed}), flush=True)
            return 2
        for violation in result.violations[:50]:
            _say(f"{violation.kind}: {violation.what} ({violation.where}): {'; '.join(violation.evidence)}")
        if result.violations and args.shrink is not None:
            _shrink(options, result, directory, args.shrink)
        print(json.dumps(result.line), flush=True)
        return 1 if result.violations else 0


def _shrink(options: Options, result: Result, directory: Path, path: Path) -> None:
    """Find a shorter schedule with violations of the same kinds, by running it, and save it."""
    kinds = {violation.kind for violation in result.violations}
    number = 0

    def fails(schedule: Schedule) -> bool:
        nonlocal number
        number += 1
        place = directory / f"shorter-{number}"
        place.mkdir()
        again = replace(options, minutes=schedule.seconds / 60, replay=schedule)
        found = {violation.kind for violation in run(again, place).violations}
        _say(f"try {number}: {len(schedule.steps)} steps, {schedule.seconds:.0f} s: {sorted(found) or 'nothing'}")
        return bool(kinds & found)

    short = shrink(result.schedule, fails, TRIES)
    path.write_text(dump(short, arrangement=options.arrangement, front=options.front, kinds=sorted(kinds)))
    _say(f"{path}: {len(short.steps)} steps instead of {len(result.schedule.steps)}")


@contextmanager
def directory_for(keep: Path | None, suffix: str = "") -> Iterator[Path]:
    """Where the files are: kept, or gone afterwards. The servers' account has to reach it."""
    if keep is not None:
        kept = keep.with_name(keep.name + suffix)
        kept.mkdir(mode=0o755, parents=True)
        yield kept
        return
    directory = Path(tempfile.mkdtemp(prefix="pdbclient-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.partitions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--arrangement", choices=[*Arrangement, BOTH], default=BOTH)
    parser.add_argument("--front", choices=list(Front), help="what Puppet speaks to (default: gateway)")
    parser.add_argument(
        "--off", choices=list(Safety), action="append", default=[], help="a safety that is turned off"
    )
    parser.add_argument("--only", default="", help="these nemeses, separated by commas")
    parser.add_argument("--databases", type=int, choices=(2, 3), default=2)
    parser.add_argument("--replay", type=Path, help="a schedule that was saved, instead of a random one")
    parser.add_argument("--shrink", type=Path, help="after violations, find a shorter schedule and save it here")
    parser.add_argument("--puppet", type=float, metavar="SECONDS", help="between real runs of `puppet apply`")
    parser.add_argument("--keep", type=Path, help="a new directory for all files, which stays")
    parser.add_argument("--json", type=Path, help="the report")
    parser.add_argument("--html", type=Path, help="the report as a page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
