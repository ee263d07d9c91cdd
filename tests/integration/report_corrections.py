"""Where our facts and reports differ from the stock terminus's on purpose, for the differential test of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["CORRECTIONS", "FORM", "MISSING", "OBJECTS", "ReportCorrection"]

NODE = "n1.example"
MISSING = "(missing)"
ANY = object()


@dataclass(frozen=True)
class ReportCorrection:
    """One way in which we differ from the stock code on purpose, or because the file itself does.

    In the cases that match `case` (or their one form that does), at the paths that match `path`, stock has `stock`
    and we have `ours`.
    """

    why: str
    case: str
    path: str
    stock: Any = ANY
    ours: Any = ANY

    def explains(self, case: str, path: str, stock: Any, ours: Any) -> bool:
        name, _, _ = case.partition(" ")
        in_case = re.fullmatch(self.case, case) or re.fullmatch(self.case, name)
        matched = in_case and re.fullmatch(self.path, path)
        return bool(matched) and (self.stock, self.ours) in {(s, o) for s in (ANY, stock) for o in (ANY, ours)}


CORRECTIONS = [
    ReportCorrection("a job id is text", "case-job-id", r"\$\.job_id", 42, "42"),
    ReportCorrection("a metric without a number is left out", "case-metric", r"\$\.metrics\[\d+\]", ANY, MISSING),
    ReportCorrection("a log has a source", "case-log-source", r"\$\.logs\[0\]\.source", None, "Puppet"),
    ReportCorrection("skipped is true or false", "case-skipped-nil", r"\$\.resources\[\d+\]\.skipped", None, False),
    ReportCorrection(
        "no null inventory", "facts-inventory-(list|empty|null)", r"\$\.package_inventory", None, MISSING
    ),
    ReportCorrection(
        "no malformed inventory", "facts-inventory-pairs", r"\$\.package_inventory", "[['a', '1']]", MISSING
    ),
    ReportCorrection(
        "local trusted data names its node", "facts-no-node", r"\$\.values\.trusted\.certname", None, NODE
    ),
    ReportCorrection("and its hostname", "facts-no-node", r"\$\.values\.trusted\.hostname", None, "n1"),
    ReportCorrection("and its domain", "facts-no-node", r"\$\.values\.trusted\.domain", None, "example"),
]
"""Where the stock code sends what PuppetDB refuses, or what is not so."""
OBJECTS = ReportCorrection(
    "no object is made of an event's value, as in Debian's Puppet 7.23 and 8.10 since a security update",
    "case-object",
    r"\$\.resources\[\d+\]\.events\[0\]\.(old|new)_value",
)
"""Where the Puppet has no such update: OpenVox 9.0.0~rc1 has none."""

FORM = [
    ReportCorrection(
        "a symbol in a list or a hash is text in every file, and so for the stock code of a server",
        "first|second|noop|case-symbols",
        r"\$\.resources\[\d+\]\.events\[\d+\]\.(old|new)_value",
    ),
    ReportCorrection(
        "Puppet writes the place of a parse error into the message, as the stock code of a server gets it",
        "case-log-issue|failed",
        r"\$\.logs\[\d+\]\.message",
    ),
    ReportCorrection(
        "Puppet writes text that Ruby holds for binary (a checksum) as base64, as the stock code of a server gets it",
        "second|corrected",
        r"\$\.resources\[\d+\]\.events\[0\]\.new_value",
    ),
    ReportCorrection(
        "puppet facts find quotes what has a colon, so that a symbol is text with a colon",
        "facts-symbols find.yaml",
        r"\$\.values\.(a|b|:b|c.*)",
    ),
]
"""Where Puppet's file is not what the run had in memory."""
