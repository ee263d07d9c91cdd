"""The checks: each a function from the facts of a role to findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pdbclient.doctor.checks.host import check_disks, check_files, check_unit, check_user
from pdbclient.doctor.checks.journal import check_journal
from pdbclient.doctor.checks.puppet import check_gateway, check_puppet
from pdbclient.doctor.checks.reconciler import check_passes, check_peers, check_ttls
from pdbclient.doctor.checks.servers import check_clocks, check_pair, check_servers, check_versions
from pdbclient.doctor.checks.settings import check_settings
from pdbclient.doctor.model import Facts, Finding

__all__ = ["CHECKS", "judge"]

CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    check_unit,
    check_user,
    check_settings,
    check_files,
    check_disks,
    check_servers,
    check_versions,
    check_pair,
    check_clocks,
    check_puppet,
    check_gateway,
    check_journal,
    check_passes,
    check_peers,
    check_ttls,
)
"""In the order in which a person would go: from the host outwards."""


def judge(facts: Facts) -> list[Finding]:
    """What all checks find."""
    return [finding for check in CHECKS for finding in check(facts)]
