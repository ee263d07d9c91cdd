"""A copy of this checkout in which `make dist` has been run: nothing is made in the checkout itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "made"]

ROOT = Path(__file__).parents[2]
_NO_SOURCE = (".*", "__pycache__", "*.egg-info", "build", "dist", "share", "site")


def made(copy: Path) -> Path:
    """Make `copy`, with the wheel and the sdist in its `dist`."""
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NO_SOURCE))
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    shutil.copy(ROOT / ".pre-commit-config.yaml", copy)
    # With the tools that are installed: neither make nor build fetches others.
    run = subprocess.run(
        ["make", "dist", "--old-file=setup", f"BIN={Path(sys.executable).parent}", "BUILD_FLAGS=--no-isolation"],
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("PASSED") == 2, "twine checks both"
    return copy
