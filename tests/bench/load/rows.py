"""A site put straight into a PuppetDB's database: ten thousand nodes in seconds, the same on every server.

What the summary queries read is as PuppetDB would have stored it: names, times, hashes, uuids. Documents (facts,
metrics, logs) are next to nothing, and hashes are of the name, not of the content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zlib import crc32

from pdbclient.lab import Lab

__all__ = ["Population", "certname"]

DAYS = 4
"""PuppetDB has tables for the reports of so many days before today."""


@dataclass(frozen=True, slots=True)
class Population:
    """Nodes with facts, a catalog and its inputs each, every hundredth with a configured expiration of its facts,
    and with `reports` reports each, evenly from the beginning of DAYS ago up to `now`.
    """

    reports: int
    now: datetime

    def load(self, lab: Lab, name: str, first: int, last: int) -> None:
        """Put the nodes number `first` to `last` into the database of a server that runs, and have it analysed."""
        # No two servers get anything in the same millisecond: by that a pass knows that they are two.
        late = f"interval '{crc32(name.encode()) % 1000} ms'"
        each = {"first": first, "last": last, "now": self.now, "late": late}
        statements = [_COMMON, *(text.format(**each) for text in _PER_NODE)]
        statements += self._report_statements(first, last, late)
        lab.sql(name, ";\n".join(["set synchronous_commit = off", "begin", *statements, "commit"]))
        lab.sql(name, "vacuum (analyze)", superuser=True)

    def _report_statements(self, first: int, last: int, late: str) -> Iterator[str]:
        midnight = self.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        begin = midnight - timedelta(days=DAYS)
        period = (self.now - begin).total_seconds() / self.reports
        for day in (begin + timedelta(days=number) for number in range(DAYS + 1)):
            yield _REPORTS.format(
                table=f"reports_{day:%Y%m%d}z",
                first=first,
                last=last,
                late=late,
                reports=self.reports,
                begin=begin,
                period=period,
                day=day,
                next_day=day + timedelta(days=1),
            )
        yield _LATEST.format(table=f"reports_{midnight:%Y%m%d}z", first=first, last=last, reports=self.reports)


def certname(number: int) -> str:
    """The name of a node by its number."""
    return f"node{number:06}.example.com"


_NAME = "'node' || lpad(i::text, 6, '0') || '.example.com'"
_HASH = "substring(sha256(convert_to({}, 'UTF8')) from 1 for 20)"
_UUID = "md5({})::uuid"

_COMMON = """
insert into environments (environment) values ('production') on conflict do nothing;
insert into producers (name) values ('puppet.example.com') on conflict do nothing;
insert into report_statuses (status) values ('unchanged') on conflict do nothing
"""
_ENVIRONMENT = "(select id from environments where environment = 'production')"
_PRODUCER = "(select id from producers where name = 'puppet.example.com')"
_STATUS = "(select id from report_statuses where status = 'unchanged')"

# Six hours of check-ins, by node.
_WHEN = "timestamptz '{now}' - (i % 21600) * interval '1 second'"
_PER_NODE = (
    f"""
insert into certnames (certname, catalog_inputs_timestamp, catalog_inputs_uuid, catalog_inputs_hash)
select {_NAME}, {_WHEN}, {_UUID.format("'catalog ' || i")}, {_HASH.format("'inputs ' || i")}
from generate_series({{first}}, {{last}}) i""",
    f"""
insert into catalog_inputs (certname_id, type, name)
select c.id, 'hiera', 'profile::key' from certnames c
join generate_series({{first}}, {{last}}) i on c.certname = {_NAME}""",
    f"""
insert into certname_fact_expiration (certid, expire, updated)
select c.id, false, {_WHEN} from certnames c
join generate_series({{first}}, {{last}}) i on c.certname = {_NAME} where i % 100 = 0""",
    f"""
insert into factsets (certname, timestamp, environment_id, hash, producer_timestamp, producer_id, stable, stable_hash,
  volatile)
select {_NAME}, {_WHEN} + {{late}}, {_ENVIRONMENT}, {_HASH.format("'facts ' || i")}, {_WHEN}, {_PRODUCER},
  '{{{{"kernel": "Linux"}}}}', {_HASH.format("'stable ' || i")}, '{{{{}}}}'
from generate_series({{first}}, {{last}}) i""",
    f"""
insert into catalogs (hash, transaction_uuid, certname, producer_timestamp, api_version, timestamp, catalog_version,
  environment_id, catalog_uuid, producer_id)
select {_HASH.format("'catalog ' || i")}, {_UUID.format("'run ' || i")}, {_NAME}, {_WHEN}, 9, {_WHEN} + {{late}}, '1',
  {_ENVIRONMENT}, {_UUID.format("'catalog ' || i")}, {_PRODUCER}
from generate_series({{first}}, {{last}}) i""",
)
_REPORT = "'report ' || i || ' ' || n"
_REPORTS = f"""
insert into {{table}} (hash, transaction_uuid, certname, puppet_version, report_format, configuration_version,
  start_time, end_time, receive_time, noop, environment_id, status_id, producer_timestamp, metrics, logs, resources,
  catalog_uuid, cached_catalog_status, producer_id, noop_pending, corrective_change, report_type)
select {_HASH.format(_REPORT)}, {_UUID.format(_REPORT)}, {_NAME}, '8.10.0', 12, n::text, t - interval '12 seconds', t,
  t + interval '1 second' + {{late}}, false, {_ENVIRONMENT}, {_STATUS}, t, '[]', '[]', '[]',
  {_UUID.format("'catalog ' || i")},
  'not_used', {_PRODUCER}, false, false, 'agent'
from (
  select i, n, timestamptz '{{begin}}' + (n + (i % 1000) / 1000.0) * {{period}} * interval '1 second' as t
  from generate_series(0, {{reports}} - 1) n, generate_series({{first}}, {{last}}) i
) each
where t >= timestamptz '{{day}}' and t < timestamptz '{{next_day}}'"""
_LATEST = f"""
update certnames c set latest_report_id = r.id, latest_report_timestamp = r.producer_timestamp
from {{table}} r join generate_series({{first}}, {{last}}) i on r.certname = {_NAME}
where c.certname = r.certname and r.configuration_version = ({{reports}} - 1)::text"""
