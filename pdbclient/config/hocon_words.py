"""What is wrong with a HOCON text, in the words of who wrote it: the parser speaks of its own tokens. Pure."""

from __future__ import annotations

import re

__all__ = ["in_words"]

_SIGNS = {
    "lbrace": "{",
    "rbrace": "}",
    "lbracket": "[",
    "rbracket": "]",
    "equals": "=",
    "colon": ":",
    "comma": "a comma",
    "plus_equals": "+=",
    "newline": "the end of the line",
    "eof": "the end of the file",
    "string": "a text in quotes",
    "triple_string": "a text in quotes",
    "unquoted": "a word without quotes",
    "subst": "a ${substitution}",
}
"""The parser's names of what stands in the text."""

_SAID = (
    (r"expected ([}\]])", "a {} is missing: something that was opened before is not closed here"),
    (r"expected value", "a value should stand here (or a list or an object before it is not closed)"),
    (r"expected key, got (\w+)", "a setting's name is missing here: there is {} in its place"),
    (r"unexpected token after key: (\w+)", "after a setting's name come : or = and its value, not {}"),
    (r"expected include path(?:, got \w+)?", 'include needs the name of a file in quotes: include "other.conf"'),
    (r"Unexpected token '(.*)' after closing brace", "there is a }} too many before {}"),
    (r"unterminated string", "the quotes of a text are not closed on its line"),
    (r"unterminated triple-quoted string", "the three quotes of a text are not closed"),
    (r"unterminated substitution", "the }} of a ${{substitution}} is missing"),
    (r"could not resolve substitution: (.*)", "{} stands for nothing: neither this file nor the environment sets it"),
)
"""What the parser says, and what a person would."""

_BARE_URL = re.compile(r'^[^"#\n]*[:=\[{,]\s*https?://', re.MULTILINE)


def in_words(error: str, text: str) -> str:
    """The parser's `error` about `text`, without its names of tokens; what it says otherwise is left as it is.

    Where a URL without quotes may be the reason, which swallows the rest of its line, that is said too.
    """
    said = error
    for pattern, words in _SAID:
        if found := re.fullmatch(pattern, error, re.DOTALL):
            said = words.format(*(_SIGNS.get(group, group) for group in found.groups()))
    if _BARE_URL.search(text):
        said += " (a URL needs double quotes: without them, // starts a comment)"
    return said
