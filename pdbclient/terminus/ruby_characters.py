"""The characters that Ruby's `inspect` leaves as they are: in this the Rubies of Puppet 7 and 8 differ.

It changes the text of a hash for a key, and of a list for the value of a report's event, and with it the hash of the
catalog or the report. Neither depends on the Unicode that this Python knows.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["RUBY_3_1", "RUBY_3_2", "Ruby", "ruby_of"]

_NOT_PRINTED = frozenset({"Cc", "Cn", "Zl", "Zp"})

# What Unicode 14 and 15 added to 13, and 15.1 to 15, by the age of a character in Unicode's DerivedAge.txt.
_NEW_IN_14_AND_15 = """
61d 870-88e 890-891 898-89f 8b5 8c8-8d2 c3c c5d cdd cf3 ece 170d 1715 171f 180f 1ac1-1ace 1b4c 1b7d-1b7e 1dfa 20c0
2c2f 2c5f 2e53-2e5d 9ffd-9fff a7c0-a7c1 a7d0-a7d1 a7d3 a7d5-a7d9 a7f2-a7f4 fbc2 fd40-fd4f fdcf fdfe-fdff
10570-1057a 1057c-1058a 1058c-10592 10594-10595 10597-105a1 105a3-105b1 105b3-105b9 105bb-105bc 10780-10785
10787-107b0 107b2-107ba 10efd-10eff 10f70-10f89 11070-11075 110c2 1123f-11241 116b9 11740-11746 11ab0-11abf
11b00-11b09 11f00-11f10 11f12-11f3a 11f3e-11f59 12f90-12ff2 1342f 13439-13455 16a70-16abe 16ac0-16ac9 1aff0-1aff3
1aff5-1affb 1affd-1affe 1b11f-1b122 1b132 1b155 1cf00-1cf2d 1cf30-1cf46 1cf50-1cfc3 1d1e9-1d1ea 1d2c0-1d2d3
1df00-1df1e 1df25-1df2a 1e030-1e06d 1e08f 1e290-1e2ae 1e4d0-1e4f9 1e7e0-1e7e6 1e7e8-1e7eb 1e7ed-1e7ee 1e7f0-1e7fe
1f6dc-1f6df 1f774-1f776 1f77b-1f77f 1f7d9 1f7f0 1f979 1f9cc 1fa75-1fa77 1fa7b-1fa7c 1fa87-1fa88 1faa9-1faaf
1fab7-1fabd 1fabf 1fac3-1fac5 1face-1facf 1fad7-1fadb 1fae0-1fae8 1faf0-1faf8 2a6de-2a6df 2b735-2b739 31350-323af
"""
_NEW_IN_15_1 = "2ffc-2fff 31ef 2ebf0-2ee5d"


def _characters(ranges: str) -> re.Pattern[str]:
    ends = (part.partition("-") for part in ranges.split())
    found = (f"{chr(int(first, 16))}-{chr(int(last or first, 16))}" for first, _, last in ends)
    return re.compile(f"[{''.join(found)}]")


_ADDED, _ADDED_LATER = _characters(_NEW_IN_14_AND_15), _characters(_NEW_IN_15_1)


@dataclass(frozen=True, slots=True)
class Ruby:
    """What versions of Ruby take for printable: U+0085, a control character, and what Unicode 14 and 15 added."""

    prints_next_line: bool
    knows_unicode_15: bool

    def prints(self, char: str) -> bool:
        """Whether `char`, which is beyond ASCII or a control character, stands in a text as it is."""
        if char == "\x85":
            return self.prints_next_line
        if _ADDED.match(char):
            return self.knows_unicode_15
        return unicodedata.category(char) not in _NOT_PRINTED and not _ADDED_LATER.match(char)


RUBY_3_1 = Ruby(prints_next_line=True, knows_unicode_15=False)
"""Ruby up to 3.1: Puppet 7, on JRuby, too."""
RUBY_3_2 = Ruby(prints_next_line=False, knows_unicode_15=True)
"""Ruby 3.2 and 3.3: Puppet 8 and OpenVox."""


def ruby_of(puppet_version: object) -> Ruby:
    """The Ruby that a version of Puppet runs on, `7.23.0` or `8`; what is no version is taken for Puppet 8."""
    major = re.match(r"\d+(?=\.|\Z)", puppet_version, re.ASCII) if isinstance(puppet_version, str) else None
    return RUBY_3_1 if major and int(major[0][:3]) < 8 else RUBY_3_2
