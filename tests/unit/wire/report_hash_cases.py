"""Reports with odd values in what is hashed, and the hashes that PuppetDB 7.12.1, 8.4.1 and 8.8.1 give them.

`tests/integration/test_server_facts.py` asks the servers anew.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CASES", "CHANGED_IN_STORE", "report"]


def report(certname: str, **members: Any) -> dict[str, Any]:
    """A payload of `store report` 8 without a single event."""
    return {
        "certname": certname,
        "puppet_version": "7.23.0",
        "report_format": 12,
        "configuration_version": "1700000000",
        "start_time": "2026-11-20T10:00:00.000Z",
        "end_time": "2026-11-20T10:00:10.000Z",
        "producer_timestamp": "2026-11-20T10:00:11.000Z",
        "producer": "puppet.example",
        "corrective_change": None,
        "resources": [],
        "noop": False,
        "noop_pending": False,
        "transaction_uuid": "00000000-0000-0000-0000-000000000007",
        "catalog_uuid": None,
        "code_id": None,
        "job_id": None,
        "cached_catalog_status": None,
        "metrics": [],
        "logs": [],
        "environment": "production",
        "status": "changed",
        **members,
    }


def _stamped(fraction: str) -> dict[str, Any]:
    return {
        "start_time": f"2026-11-20T10:00:00.{fraction}Z",
        "end_time": f"2026-11-20T10:00:10.{fraction}+00:00",
        "producer_timestamp": f"2026-11-20T10:00:11.{fraction}Z",
    }


_ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "unicode": {"configuration_version": "grüße ☃ 🎉 \u2028\u2029 \x7f \x80 \ufeff"},
    "quotes": {"configuration_version": "a\"b\\c/d'</script>"},
    "controls": {"configuration_version": "".join(map(chr, range(1, 32)))},
    "surrogate": {"configuration_version": "a\ud800b"},
    "empty": {"configuration_version": "", "puppet_version": ""},
    "numbers-in-text": {"configuration_version": "1e5", "puppet_version": "8"},
    "format-0": {"report_format": 0},
    "format-negative": {"report_format": -1},
    "format-greatest": {"report_format": 32767},
    "null-uuid": {"transaction_uuid": None},
    "capital-uuid": {"transaction_uuid": "ABCDEF00-0000-0000-0000-00000000ABCD"},
    "bare-uuid": {"transaction_uuid": "abcdef0000000000000000000000abcd"},
    "braced-uuid": {"transaction_uuid": "{abcdef00-0000-0000-0000-00000000abcd}"},
    "offsets": {
        "start_time": "2026-11-20T12:00:00.5+02:00",
        "end_time": "2026-11-20T04:30:00-05:30",
        "producer_timestamp": "2026-11-20T10:00:11.25+00:00",
    },
    "whole-second": {"producer_timestamp": "2026-11-20T10:00:11Z"},
    "before-1970": {"start_time": "1969-12-31T23:59:59.9999Z", "end_time": "1960-01-01T00:00:00.0001Z"},
    **{
        f"fraction-{fraction}": _stamped(fraction)
        for fraction in ("1", "12", "123", "1234", "123999", "1239997", "1230003", "123999999", "999999", "9999999")
    },
    **{
        f"day-{day}": {"start_time": f"{day}T23:59:59.9996Z", "end_time": f"{day}T00:00:00.001+00:00"}
        for day in (
            *("0001-01-01", "0044-03-15", "1000-02-28", "1000-03-01", "1500-02-28", "1500-03-01", "1582-10-14"),
            *("1582-10-15", "1700-03-01", "1970-01-01", "2100-01-01", "9999-12-31"),
        )
    },
}

CHANGED_IN_STORE = frozenset(
    {
        *("capital-uuid", "bare-uuid", "braced-uuid"),
        *(name for name in _ODD if name.startswith("day-") and name < "day-1582-10-15"),
    }
)
"""A server shows these otherwise than they came: what it shows, sent to a server, is another report."""

_HASHES = {
    "plain": "c916b84765cf834f1823f82695513bbea9c288de",
    "unicode": "a9855ffd2a78dcfebb59eafad138dc3943710dac",
    "quotes": "5997619fe99809a13173e619c79670c5ffaeea4e",
    "controls": "24ea4a853d0b81b1129dfabe020d213a47dac306",
    "surrogate": "893e1ab29d0b2cd46e94cf95d22b801ac4f23849",
    "empty": "11fd67b02f11ac76e9a0f8b6c1ea0948ba1ecdba",
    "numbers-in-text": "c695874bf7c5eeae93376d863997486a4fd29332",
    "format-0": "52a04e1ba43c86f99d46226c6160171011604081",
    "format-negative": "c03b61101055cf7b97b7a28f1846adaf53146fdc",
    "format-greatest": "b89b29d3b1af89563c21530f85ba5e2c81c4778c",
    "null-uuid": "9e502da04ccf8488557380a8e9268944ed9cbdce",
    "capital-uuid": "b8b64710baab50e02387d492e1fa1cf84d1a86ab",
    "bare-uuid": "0137967c3c8218d6c8612346419c2529024877a4",
    "braced-uuid": "cf3be251f4abb09a67c0a7bf23db36b00ed1a3dc",
    "offsets": "8768468fbd4e90e077922ee07955d66e758e2c81",
    "whole-second": "528cd905a1351ff7442f42b073ac745962d643b0",
    "before-1970": "7a10e56781807aca944571789dee7ff28d90505f",
    "fraction-1": "21573a8f091a6b8290a526ec2ca0fd36b5a1330c",
    "fraction-12": "fb777f362cab68406260dba53ce95a3391734ac5",
    "fraction-123": "affc64545454eeeb85eb345cd423581e13a0e8e2",
    "fraction-1234": "f5aad227a8d149ce718a0b761ad26869a228c476",
    "fraction-123999": "031bab5ad3e42b00f55d79a34f165fa773e176ca",
    "fraction-1239997": "12b0f2633b4875f831fff1fc9da070e9624c73cb",
    "fraction-1230003": "4559b6429fc58f465f93aaa4fdd34d1974b386a0",
    "fraction-123999999": "6ba796316cf37859ba23ce4ebf08a628278d619d",
    "fraction-999999": "f2d4f128e0ecae9ad28f7e3203032d375e9291f3",
    "fraction-9999999": "7ca8066611c1b90d97781214ea291144af55d7c9",
    "day-0001-01-01": "ccf1fff198eb656a6612077b8fd9e17d787cfe32",
    "day-0044-03-15": "203ab60079fba226014f9fe08096dd42086e22ec",
    "day-1000-02-28": "2661a4b1db7efe35ea851cf1c2e502ee89c06f08",
    "day-1000-03-01": "52f2650712191f9705eb4555e0d0fb7a1d606ed3",
    "day-1500-02-28": "b4079cb354177aa47542c7c8c0d625ec681b8b4a",
    "day-1500-03-01": "21dd1a60a9be7fa11e4d7f6bb361a13ee3c6de3c",
    "day-1582-10-14": "2a83c5a9220df6e921ab27423fe93745f9d412a3",
    "day-1582-10-15": "b160e3d1d5c198ef25484f3ebc8e74f894fd2943",
    "day-1700-03-01": "8f27cc520b152d61f77bdd37cf01e11ed143c736",
    "day-1970-01-01": "629591ba55861b5e5a392c65780a55c99995eadc",
    "day-2100-01-01": "27430d9daa61c6e7fc5b8a8b93bee7a7bba9db32",
    "day-9999-12-31": "85e2dc20eb093fb10f8efa6be99f6d8f5b9a819e",
}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    name: (report(f"{name}.example", **members), _HASHES[name]) for name, members in _ODD.items()
}
"""By name: a payload, and the hash that every server gives to it."""
