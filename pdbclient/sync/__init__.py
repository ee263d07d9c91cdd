"""The reconciler: makes the local PuppetDB hold what its peers hold, by pulling from them.

from pdbclient.sync import reconcile
results = reconcile(config)          # one pass against each configured remote
"""

from pdbclient.sync.policy.model import (
    Difference,
    Entity,
    EntityPlan,
    EntityResult,
    Mode,
    Outcome,
    PassResult,
    Selection,
    Version,
)
from pdbclient.sync.run.reconciler import Reconciler, plan, reconcile
from pdbclient.sync.service.daemon import Daemon, stop_on_signals

__all__ = [
    "Daemon",
    "Difference",
    "Entity",
    "EntityPlan",
    "EntityResult",
    "Mode",
    "Outcome",
    "PassResult",
    "Reconciler",
    "Selection",
    "Version",
    "plan",
    "reconcile",
    "stop_on_signals",
]
