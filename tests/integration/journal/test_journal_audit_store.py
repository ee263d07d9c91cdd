"""The tests of the audit, all of them, with the journal on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.unit.journal.test_audit import *  # noqa: F403

pytestmark = pytest.mark.integration
