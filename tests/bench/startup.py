"""What the program costs before it does anything: the CPU of `pdbclient --help`, and of `import pdbclient`.

Each runs in a fresh Python, in turns with one that does nothing, which is told beside them. Figures are medians of
the CPU, user and system, that the kernel counts for the process: what else the machine does makes them no longer, but
for caches that are shared.

    python -m tests.bench.startup [--quick]

Ends with one JSON line. Exit 1 when `--help` takes more than its limit of 0.15 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

LIMIT = 0.15
PROGRAMS = {
    "help": ("-m", "pdbclient", "--help"),
    "import": ("-c", "import pdbclient"),
    "python": ("-c", "pass"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 21")
    rounds = 5 if parser.parse_args().quick else 21
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, arguments in PROGRAMS.items():
            taken[name].append(cpu(*arguments))
    medians = {f"{name}_cpu_s": round(statistics.median(found), 3) for name, found in taken.items()}
    ok = medians["help_cpu_s"] <= LIMIT
    print(json.dumps({"bench": "startup", "rounds": rounds, **medians, "limit": LIMIT, "ok": ok}))
    return 0 if ok else 1


def cpu(*arguments: str) -> float:
    """Seconds of CPU that a Python takes with these arguments."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{arguments}: exit {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
