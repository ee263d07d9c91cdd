"""What holds for every test."""

from __future__ import annotations

import gc
import re
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from tests import puppetdbs
from tests.soak import LONG

# The same examples in every run: what was green stays so until the code changes. The long form draws new ones. How
# long one example takes on a busy machine says nothing.
settings.register_profile("gate", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("soak" if LONG else "gate")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script starts in the background is begun so, and all that the tests start would be, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What has no short form: systems that are installed and booted.
BOOTED = ("test_debian_package.py", "test_documentation_path.py", "test_puppet_module_systemd.py")
collect_ignore = [] if LONG else [f"integration/{name}" for name in BOOTED]

# Tests of other releases say which in their parameters; others have dates and the like there.
_RELEASE = "|".join(map(re.escape, (puppetdbs.OWN, *puppetdbs.VERSIONS)))
_PAIR = re.compile(rf"[\[-]((?:{_RELEASE})\+(?:{_RELEASE}))[-\]]")


def pytest_report_header() -> str:
    """Which PuppetDBs the tests meet."""
    return f"PuppetDB: {puppetdbs.said()}"


def pair_of(nodeid: str) -> str | None:
    """The pair of releases that a test is about, where that is not this machine's own."""
    found = _PAIR.search(nodeid)
    return None if found is None or found.group(1) == f"{puppetdbs.OWN}+{puppetdbs.OWN}" else found.group(1)


class ByFileOrPair(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file's tests go to one process, as with `--dist loadfile`; but all of one pair of other releases go to one.

    So each of these pairs is started once.
    """

    def _split_scope(self, nodeid: str) -> str:
        return pair_of(nodeid) or super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFileOrPair | None:
    """Give out the tests so, where pytest was told to go by files."""
    return ByFileOrPair(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, those of other releases come first: they are the longest pieces."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: pair_of(item.nodeid) is None)


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of every later collection of garbage.

    It held all threads up for 0.4 s, a fake server's among them: near the 0.6 s that its clients wait.
    """
    gc.collect()
    gc.freeze()
