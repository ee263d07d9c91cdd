"""How the tests are shared out when they run in two processes (`pytest -n 2 --dist loadgroup`)."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that needs the real pair goes to one process, which starts it; of the rest, a file stays together."""
    for item in items:
        uses_lab = "lab" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("lab" if uses_lab else str(item.path)))
