"""Puppet's own configuration, changed so that the stock terminus goes through pdbclient: plan, write, undo."""

from pdbclient.puppet_setup.change import Change, Plan, SettingChange
from pdbclient.puppet_setup.plan import GATEWAY_PORT, Wanted, plan_setup
from pdbclient.puppet_setup.puppetdb_conf import WantedSetting
from pdbclient.puppet_setup.record import SetupError
from pdbclient.puppet_setup.undo import Action, Undone, undo
from pdbclient.puppet_setup.write import write

__all__ = [
    "GATEWAY_PORT",
    "Action",
    "Change",
    "Plan",
    "SettingChange",
    "SetupError",
    "Undone",
    "Wanted",
    "WantedSetting",
    "plan_setup",
    "undo",
    "write",
]
