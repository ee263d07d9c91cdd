"""The tests of what several processes share, all of them, with the journal on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.unit.journal.test_sharing import *  # noqa: F403

pytestmark = pytest.mark.integration
