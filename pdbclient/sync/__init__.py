"""The reconciler: makes the local PuppetDB hold what its peers hold, by pulling from them.

from pdbclient.sync import reconcile
results = reconcile(config)          # one pass against each configured remote
"""

from pdbclient.sync.daemon import Daemon, stop_on_signals
from pdbclient.sync.model import (
    Entity,
    EntityPlan,
    EntityResult,
    Mode,
    Outcome,
    PassResult,
    Selection,
    Skip,
    Version,
)
from pdbclient.sync.reconciler import Reconciler, plan, reconcile

__all__ = [
    "Daemon",
    "Entity",
    "EntityPlan",
    "EntityResult",
    "Mode",
    "Outcome",
    "PassResult",
    "Reconciler",
    "Selection",
    "Skip",
    "Version",
    "plan",
    "reconcile",
    "stop_on_signals",
]
