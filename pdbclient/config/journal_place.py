"""Where the journal is: a file, or a PostgreSQL database by URL. What counts as one, and how it is shown. Pure."""

from __future__ import annotations

import re

__all__ = ["check_journal_place", "without_password"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
# As libpq reads it, but stricter where a password's own characters would be taken for the URL's.
_POSTGRES = re.compile(
    r"postgres(?:ql)?://"
    r"(?:[^:@/?#]*(?::[^@/?#]*)?@)?"  # user and password
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]*)(?::\d{1,5})?"  # a host
    r"(?:,(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._%-]*)(?::\d{1,5})?)*"  # further hosts
    r"(?:/[^@/?#]*)?"  # the database
    r"(?:\?[a-z_]+=[^@&=#]*(?:&[a-z_]+=[^@&=#]*)*)?"
)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_PASSWORD = re.compile(r"(postgres(?:ql)?:/+[^:\n]*:).*@", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"([?&]\w*(?:password|secret|scram)\w*=)[^&\s]+", re.IGNORECASE)

_EXPECTED = "an absolute path (/var/lib/pdbclient/journal.db) or a postgresql:// URL"


def check_journal_place(text: str) -> str:
    """`text`, when it is an absolute path or a URL of PostgreSQL.

    Raises `ValueError` with the reason, which never repeats `text`: that may hold a password.
    """
    if "\0" in text:
        raise ValueError("a path cannot contain a NUL character")
    if text.startswith("/"):
        return text
    if text[:1] in ("'", '"'):
        raise ValueError(f"must be {_EXPECTED}: quotes are not removed here, leave them out")
    if text in ("postgres:", "postgresql:"):
        raise ValueError(f"must be {_EXPECTED} (in HOCON // starts a comment: put the URL in double quotes)")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise ValueError(f"must be {_EXPECTED}, found a relative path: write the whole path, from / on")
    if scheme[1] not in ("postgres", "postgresql"):
        raise ValueError(f"must be {_EXPECTED}, found a URL of {scheme[1]!r}")
    if not re.fullmatch(r"[!-~]+", text) or not _POSTGRES.fullmatch(text) or _BROKEN_ESCAPE.search(text):
        raise ValueError(
            "not a URL of PostgreSQL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and percent-encode "
            "blanks and @ : / ? # % in its parts (what was found is not shown: it may hold a password)"
        )
    return text


def without_password(text: str) -> str:
    """`text` with `***` for each password of a PostgreSQL URL in it: what a message, a log or a table may show.

    It masks too much rather than too little where the URL is none by the letter.
    """
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))
