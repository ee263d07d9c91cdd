"""What the stock terminus computes before it sends, in Python: from Puppet's own objects to payloads of commands."""

from pdbclient.terminus.catalog import catalog_inputs_payload, catalog_payload
from pdbclient.terminus.facts import facts_payload, facts_warnings
from pdbclient.terminus.report import ReportPayload, report_payload

__all__ = [
    "ReportPayload",
    "catalog_inputs_payload",
    "catalog_payload",
    "facts_payload",
    "facts_warnings",
    "report_payload",
]
