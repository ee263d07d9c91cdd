"""The store's tests, all of them, on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.unit.journal.test_store_content import *  # noqa: F403
from tests.unit.journal.test_store_delivery import *  # noqa: F403

pytestmark = pytest.mark.integration
