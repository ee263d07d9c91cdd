"""A real PuppetDB pair on this machine: certificates, PostgreSQL, PuppetDB, and the faults to try on them."""

from pdbclient.lab.faults import ACTIONS
from pdbclient.lab.lab import Lab, NodeStatus
from pdbclient.lab.layout import Node, default_directory
from pdbclient.lab.options import LabOptions

__all__ = ["ACTIONS", "Lab", "LabOptions", "Node", "NodeStatus", "default_directory"]
