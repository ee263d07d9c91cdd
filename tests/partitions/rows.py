"""What the database of a PuppetDB holds, by SQL: nothing of what is tested has a part in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .checkers import Held, NewestRecord, Report

__all__ = ["held"]

Sql = Callable[[str], Sequence[tuple[Any, ...]]]

_MILLIS = "floor(extract(epoch from {}) * 1000)::bigint"
_HASH = "encode({}, 'hex')"
# Node, producer timestamp (ms), and what tells one content from another.
_NEWEST: Mapping[str, str] = {
    "facts": f"select certname, {_MILLIS.format('producer_timestamp')}, {_HASH.format('hash')} from factsets",
    "catalog": f"select certname, {_MILLIS.format('producer_timestamp')},"
    f" concat_ws(' ', {_HASH.format('hash')}, transaction_uuid, catalog_uuid, catalog_version) from catalogs",
    "inputs": f"select c.certname, {_MILLIS.format('c.catalog_inputs_timestamp')},"
    " c.catalog_inputs_uuid || ' ' || string_agg(i.type || '=' || i.name, ',' order by i.type, i.name)"
    " from certnames c join catalog_inputs i on i.certname_id = c.id group by 1, 2, c.catalog_inputs_uuid",
    "deactivate": f"select certname, {_MILLIS.format('deactivated')}, '' from {{flags}}"
    " where deactivated is not null",
}
_REPORTS = (
    f"select certname, {_MILLIS.format('producer_timestamp')}, transaction_uuid::text, {_HASH.format('hash')}"
    " from reports"
)


def held(sql: Sql) -> Held:
    """All that the PuppetDB whose database `sql` asks holds of what nodes send."""
    # A table of their own from schema 88 (PuppetDB 8.8) on.
    ((flags,),) = sql("select coalesce(to_regclass('certnames_status')::text, 'certnames')")
    newest = {
        kind: {
            certname: NewestRecord(int(millis), content or "")
            for certname, millis, content in sql(text.format(flags=flags))
        }
        for kind, text in _NEWEST.items()
    }
    reports = tuple(Report(name, int(at), run or "", content) for name, at, run, content in sql(_REPORTS))
    return Held(reports, newest)
