"""The lowest versions that setup.cfg allows, as constraints for pip: `python .ci/tools/lowest.py`.

What is needed is in Python itself: this runs before anything is installed.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

__all__ = ["SETUP", "lowest"]

SETUP = Path(__file__).parents[2] / "setup.cfg"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,]+\])?(?:>=(?P<version>[\w.]+))?")


def lowest(text: str) -> list[str]:
    """One `name==version` for each requirement in the text of a setup.cfg that has a lowest version.

    Raises `ValueError` for one that is not of the form `name>=version`, and where a name has two lowest versions.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(text)
    bounds: dict[str, str] = {}
    for requirements in (config["options"]["install_requires"], *config["options.extras_require"].values()):
        for line in requirements.split("\n"):
            if not line.strip():
                continue
            found = _REQUIREMENT.fullmatch(line.strip())
            if found is None:
                raise ValueError(f"setup.cfg: {line.strip()}: not of the form name>=version")
            name, version = found["name"], found["version"]
            if version is not None and bounds.setdefault(name, version) != version:
                raise ValueError(f"setup.cfg: {name} has two lowest versions: {bounds[name]} and {version}")
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    print("\n".join(lowest(SETUP.read_text())))
