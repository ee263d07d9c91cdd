"""The rules of the fake PuppetDB that the reconciler's unit tests stand on, each held against a real one.

Every case is a sequence of commands for nodes of its own. The fake gets them one after the other; the real server
gets the first command of every case, settles, the second of every case, and so on: then no two commands for one node
meet in its queue, and all cases cost what the longest one does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any, TypeVar

import pytest

from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.sync.inventory.identity import newest_factsets, newest_reports, process
from pdbclient.sync.inventory.kinds import CATALOGS, FACTS, INPUTS, Kind
from pdbclient.sync.policy.identity import one_process
from pdbclient.wire import query
from pdbclient.wire.check import VERSIONS
from pdbclient.wire.command import Command
from pdbclient.wire.summary import HOUR_FORMAT, MINUTE_FORMAT, from_millis, to_millis

from ..unit.sync import fake
from ..unit.sync.fake import FakePuppetDB
from ..unit.sync.fake_store import DAY, PURGE_BATCH, Row
from ..versions import release_of
from .admin_commands import clean
from .schema import flags_table, history_table

T = TypeVar("T")

pytestmark = pytest.mark.integration

NODE = "primary"
HOUR = 3_600_000
"""Milliseconds. Cases have their times in hours before now; negative: after now."""
_ANY = ["=", "node_state", "any"]
RUNS = [f"{number}1b5ad2e-0000-4000-8000-000000000000" for number in range(10)]


@dataclass(frozen=True)
class RuleCase:
    """`commands` are a kind, hours ago, and what makes one content differ from another."""

    rule: str
    commands: tuple[tuple[str, float, int], ...]

    @property
    def certname(self) -> str:
        return self.rule.replace(" ", "-")


def _cases() -> Iterator[RuleCase]:
    def case(rule: str, *commands: tuple[str, float, int]) -> RuleCase:
        return RuleCase(rule, commands)

    for kind in ("facts", "catalog", "inputs", "expiration"):
        yield case(f"{kind} newer", (kind, 3, 1), (kind, 2, 2))
        yield case(f"{kind} stale", (kind, 2, 1), (kind, 3, 2))
        yield case(f"{kind} equal time", (kind, 2, 1), (kind, 2, 2))
        yield case(f"{kind} equal time the other way round", (kind, 2, 2), (kind, 2, 1))
        yield case(f"{kind} a time to come blocks", (kind, -20, 1), (kind, 1, 2))
    for kind in ("facts", "catalog", "inputs", "expiration", "report"):
        yield case(f"{kind} after a deactivation revives", ("deactivation", 3, 0), (kind, 2, 1))
        yield case(
            f"{kind} before a deactivation is stored and does not revive", ("deactivation", 2, 0), (kind, 3, 1)
        )
        yield case(f"{kind} at the time of a deactivation does not revive", ("deactivation", 2, 0), (kind, 2, 1))
        yield case(f"deactivation after {kind}", (kind, 3, 1), ("deactivation", 2, 0))
        yield case(f"deactivation before {kind}", (kind, 2, 1), ("deactivation", 3, 0))
        yield case(f"deactivation at the time of {kind}", (kind, 2, 1), ("deactivation", 2, 0))
        yield case(f"deactivation before {kind} to come", (kind, -20, 1), ("deactivation", 1, 0))
        yield case(
            f"stale {kind} revives", (kind, 1, 1), ("deactivation", 4, 0), ("deactivation", 1, 0), (kind, 2, 1)
        )
    yield case(
        "a stale factset that is newer than the flag revives",
        ("facts", 1, 1),
        ("deactivation", 1, 0),
        ("inputs", 0.5, 1),
    )
    yield case("deactivation of an unknown node", ("deactivation", 2, 0))
    yield case("deactivation again later", ("deactivation", 3, 0), ("deactivation", 2, 0))
    yield case("deactivation again earlier", ("deactivation", 2, 0), ("deactivation", 3, 0))
    yield case("deactivation twice", ("deactivation", 2, 0), ("deactivation", 2, 0))
    yield case("inputs that are empty are ignored", ("facts", 3, 1), ("inputs", 3, 1), ("empty inputs", 2, 2))
    yield case("inputs that are empty make no node", ("empty inputs", 2, 1))
    yield case("inputs that are empty do not revive", ("deactivation", 3, 0), ("empty inputs", 2, 1))
    yield case("a report twice", ("report", 2, 1), ("report", 2, 1))
    yield case("a report of another run at the same time", ("report", 2, 1), ("report", 2, 2))
    yield case("a report of the same run with other content is no other", ("report", 2, 1), ("failed report", 2, 1))
    yield case("an older report is stored too", ("report", 2, 1), ("report", 30, 2))
    yield case(
        "an old report counts not against a deactivation", ("report", 3, 1), ("report", 30, 2), ("deactivation", 3, 0)
    )
    yield case("a catalog of the same content and another run", ("catalog", 3, 1), ("same catalog", 2, 2))


CASES = tuple(_cases())


def command(kind: str, certname: str, millis: int, value: int) -> tuple[str, Row]:
    """A command's name and payload."""
    match kind:
        case "facts":
            return "replace facts", fake.facts(certname, millis, value, [["openssl", f"1.{value}", "apt"]])
        case "catalog":
            return "replace catalog", fake.catalog(certname, millis, value, RUNS[value])
        case "same catalog":
            return "replace catalog", fake.catalog(certname, millis, value - 1, RUNS[value])
        case "inputs":
            return "replace catalog inputs", fake.inputs(certname, millis, RUNS[value], (f"key{value}",))
        case "empty inputs":
            return "replace catalog inputs", fake.inputs(certname, millis, RUNS[value], ())
        case "expiration":
            return "configure expiration", fake.expiration(certname, millis, value == 1)
        case "report":
            return "store report", fake.report(certname, millis, RUNS[value])
        case "failed report":
            return "store report", {**fake.report(certname, millis, RUNS[value]), "status": "failed"}
        case "plan report":
            return "store report", {**fake.report(certname, millis, RUNS[value]), "type": "plan"}
        case _:
            return "deactivate node", fake.deactivation(certname, millis)


@dataclass
class Duel:
    """A real server and the fake one, which knows no difference but its hashes."""

    lab: Lab
    real: Session
    now: int = 0
    commands: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ((text,),) = self.lab.sql(NODE, "select (extract(epoch from now()) * 1000)::bigint")
        self.now = int(text)
        (version,) = (node.version for node in self.lab.status() if node.name == NODE)
        self.model = FakePuppetDB(NODE, lambda: self.now / 1000, release_of(version or ""))
        # As the lab has them: a node expires, when told to, unless it has something of a time to come.
        self.model.node_ttl, self.model.node_purge_ttl, self.model.report_ttl = 0, 3650 * DAY, 3650 * DAY

    def ago(self, hours: float) -> int:
        return self.now - int(hours * HOUR)

    def give(self, certname: str, kind: str, hours: float, value: int = 1) -> None:
        """Put a command into the row of those for a node."""
        self.commands.setdefault(certname, []).append(command(kind, certname, self.ago(hours), value))

    def run(self) -> None:
        """Both get all the commands."""
        for turn in zip_longest(*self.commands.values()):
            for name, payload in filter(None, turn):
                # Not by `Command.create`, which refuses what a PuppetDB would ignore.
                body = json.dumps(payload).encode()
                stamp = payload["producer_timestamp"]
                self.real.submit(Command(name, VERSIONS[name], payload["certname"], stamp, body))
                self.model.apply(name, payload)
            self.lab.settle(NODE)
        self.commands.clear()
        assert not self.lab.discarded(NODE)

    def days(self) -> int:
        """For how many days the real server keeps a table of reports."""
        parent = history_table(self.lab, NODE)
        ((number,),) = self.lab.sql(NODE, f"select count(*) from pg_inherits where inhparent = '{parent}'::regclass")
        return int(number)

    def clean(self, what: str, **options: int) -> None:
        """Have the real server collect its garbage."""
        clean(self.lab, NODE, what, **options)

    def flag(self, certname: str, **hours: float) -> None:
        """Give a node the flags that only a server's own clock sets."""
        for name, ago in hours.items():
            setattr(self.model.nodes[certname], name, self.ago(ago))
            stamp = f"to_timestamp({self.ago(ago)} / 1000.0)"
            flags = flags_table(self.lab, NODE)
            self.lab.sql(NODE, f"update {flags} set {name} = {stamp} where certname = '{certname}'")

    def both(self, ask: Callable[[Session | FakePuppetDB], T]) -> tuple[T, T]:
        return ask(self.real), ask(self.model)


def shown(server: Session | FakePuppetDB) -> dict[str, list[Any]]:
    """What a server shows of each node: flags, settings, versions, and what tells one content from another.

    A hash is another one here and there, so the content stands for it.
    """

    def rows(path: str, ast: Any = _ANY, **params: Any) -> list[Row]:
        return [json.loads(row) for row in server.rows(path, query=ast, params=params or None)]

    found: dict[str, list[Any]] = {}

    def add(row: Row, *told: Any) -> None:
        found.setdefault(row["certname"], []).append(told)

    for row in rows("/nodes", include_facts_expiration="true"):
        when = row["expires_facts_updated"] and to_millis(row["expires_facts_updated"])
        dead = row["deactivated"] and to_millis(row["deactivated"])
        add(row, "node", dead, row["expired"] is not None, row["expires_facts"], when)
    for row in rows("/factsets", include_package_inventory="true"):
        packages = row.get("package_inventory")
        add(row, "facts", to_millis(row["producer_timestamp"]), row["facts"]["data"], packages)
    for row in rows("/catalogs"):
        content = [resource["parameters"] for resource in row["resources"]["data"]]
        add(row, "catalog", to_millis(row["producer_timestamp"]), row["transaction_uuid"], content)
    for row in rows("/catalog-inputs"):
        add(row, "inputs", to_millis(row["producer_timestamp"]), row["catalog_uuid"], row["inputs"])
    for row in rows("/reports", ["=", "type", "any"]):
        add(row, "report", to_millis(row["producer_timestamp"]), row["transaction_uuid"], row["status"])
    return {name: sorted(told, key=repr) for name, told in found.items()}


@pytest.fixture
def duel(idle: Lab) -> Iterator[Duel]:
    endpoint = Endpoint("localhost", idle.node(NODE).https_port)
    with closing(Session(endpoint, idle.client_tls, Timeouts())) as session:
        yield Duel(idle, session)


def test_precedence_is_the_same_case_by_case(duel: Duel) -> None:
    assert len({case.certname for case in CASES}) == len(CASES)
    for case in CASES:
        for kind, hours, value in case.commands:
            duel.give(case.certname, kind, hours, value)
    duel.run()
    real, model = duel.both(shown)
    for case in CASES:
        assert real.get(case.certname) == model.get(case.certname), case.rule
    assert real.keys() == model.keys()


def test_data_revive_a_node_when_one_of_its_two_flags_is_older(duel: Duel) -> None:
    flags = {
        "both-older": {"deactivated": 3, "expired": 4},
        "both-newer": {"deactivated": 1, "expired": 1},
        "only-expired-older": {"deactivated": 1, "expired": 3},
        "only-deactivated-older": {"deactivated": 3, "expired": 1},
        "deactivated-at-that-time": {"deactivated": 2, "expired": 3},
        "expired-at-that-time": {"expired": 2},
        "expired-later": {"expired": 1},
        "expired-before": {"expired": 3},
    }
    for certname in flags:
        duel.give(certname, "facts", 9)
    duel.run()
    for certname, hours in flags.items():
        duel.flag(certname, **hours)
        duel.give(certname, "facts", 2, 2)
    duel.run()
    real, model = duel.both(shown)
    assert real == model
    alive = {certname for certname, told in real.items() if told[1][1:3] == (None, False)}
    dead = {"both-newer", "expired-at-that-time", "expired-later"}
    if duel.model.release.newer_flag_holds:
        dead |= {"only-expired-older", "only-deactivated-older"}
    assert alive == set(flags) - dead


def test_a_node_expires_unless_something_of_it_is_young_or_its_facts_never_expire(duel: Duel) -> None:
    for kind in ("facts", "catalog", "inputs", "expiration", "report"):
        duel.give(f"young-{kind}", kind, -1)
        duel.give(f"old-{kind}", kind, 1)
        duel.give(f"young-{kind}-old-facts", "facts", 1)
        duel.give(f"young-{kind}-old-facts", kind, -1)
    duel.give("never", "expiration", 1, 2)
    duel.give("never-with-a-catalog", "expiration", 1, 2)
    duel.give("never-with-a-catalog", "catalog", 1)
    duel.give("deactivated", "facts", 2)
    duel.give("deactivated", "deactivation", 1)
    duel.run()
    duel.clean("expire_nodes")
    duel.model.expire()
    real, model = duel.both(shown)
    assert real == model
    expired = {certname for certname, node in duel.model.nodes.items() if node.expired is not None}
    assert expired == {f"old-{kind}" for kind in ("facts", "catalog", "inputs", "expiration", "report")}


def test_who_counts_as_inactive_and_who_is_purged(duel: Duel) -> None:
    year = 365 * 24
    flags = {
        "long-deactivated": {"deactivated": 11 * year},
        "long-expired": {"expired": 11 * year},
        "lately-expired": {"expired": 9 * year},
        "lately-deactivated": {"deactivated": 9 * year},
        "long-deactivated-lately-expired": {"deactivated": 11 * year, "expired": 9 * year},
        "long-expired-lately-deactivated": {"deactivated": 9 * year, "expired": 11 * year},
    }
    for certname in (*flags, "alive"):
        for kind in ("facts", "catalog", "inputs", "report"):
            duel.give(certname, kind, 12 * year)
    duel.run()
    for certname, hours in flags.items():
        duel.flag(certname, **hours)
    for state in ("active", "inactive", "any"):
        listed, counted = names(duel, "/nodes", ["=", "node_state", state])
        assert listed == counted, state
    duel.clean("purge_nodes")
    duel.model.purge_nodes()
    real, model = duel.both(shown)
    assert real == model
    assert real.keys() == {"alive", "lately-expired", "lately-deactivated"}


def test_nodes_are_purged_25_at_a_time(duel: Duel) -> None:
    for number in range(PURGE_BATCH + 5):
        duel.give(f"n{number}", "deactivation", 11 * 365 * 24)
    duel.run()
    for left in (5, 0):
        duel.clean("purge_nodes", batch_limit=PURGE_BATCH)
        duel.model.purge_nodes()
        assert [len(names) for names in names(duel, "/nodes", _ANY)] == [left, left]


def test_reports_go_by_whole_days(duel: Duel) -> None:
    ttl = 3650 * DAY
    today = (duel.now - ttl) - (duel.now - ttl) % DAY
    for number, millis in enumerate(
        (
            today - 3 * DAY,
            today - 2 * DAY,
            today - DAY - 1,
            today - DAY,
            today - 1,
            today,
            today + 12 * HOUR,
            duel.now,
        )
    ):
        duel.give("n", "report", (duel.now - millis) / HOUR, number)
    duel.run()
    days = -1
    # Each time the oldest day goes, also one that has been emptied since.
    while days != (days := duel.days()):
        duel.clean("purge_reports")
    for _ in range(3):
        duel.model.purge_reports()
    real, model = duel.both(shown)
    assert real == model
    assert len(real["n"]) == 1 + 3


def test_what_a_query_is_about_when_it_does_not_say(duel: Duel) -> None:
    for certname in ("alive", "dead"):
        for kind in ("facts", "catalog", "inputs", "report", "plan report"):
            duel.give(certname, kind, 2 if kind != "plan report" else 3)
    duel.give("dead", "deactivation", 1)
    duel.run()
    some = ["in", "certname", ["array", ["alive", "dead"]]]
    scopes: list[list[Any]] = [some, ["and", some, _ANY], ["and", some, ["=", "node_state", "active"]]]
    types: list[list[Any]] = [["=", "type", "any"], ["=", "type", "plan"], ["null?", "type", False]]
    for path in ("/nodes", "/factsets", "/catalogs", "/catalog-inputs", "/reports"):
        for ast in scopes:
            shown_there, shown_here = names(duel, path, ast)
            assert shown_there == shown_here, (path, ast)
    for ast in types:
        shown_there, shown_here = names(duel, "/reports", ast)
        assert shown_there == shown_here, ast


def test_hours_of_reports_and_what_was_received_last(duel: Duel) -> None:
    for number, hours in enumerate((0.1, 0.2, 1.1, 30, 30.2, -5)):
        duel.give(f"n{number}", "report", hours, number)
    duel.run()
    bounds = from_millis(duel.ago(40)), from_millis(duel.ago(-40))

    def hours_of(server: Session | FakePuppetDB) -> list[tuple[str, int, int]]:
        found = [json.loads(row) for row in server.rows("/reports", query=query.report_hour_buckets(*bounds))]
        return sorted((row["to_string"], row["count"], to_millis(row["max_2"])) for row in found)

    real, model = duel.both(hours_of)
    assert real == model
    params: dict[str, Any] = {"limit": 2, "order_by": [{"field": "receive_time", "order": "desc"}]}
    ast = query.reports_received(None, bounds[0])
    servers: list[Session | FakePuppetDB] = [duel.real, duel.model]
    for server in servers:
        rows = list(server.rows("/reports", query=ast, params=params))
        assert len(rows) == 2
        for row in map(json.loads, rows):
            # By the server's clock, whatever the report says.
            assert abs(to_millis(row["receive_time"]) - duel.now) < HOUR


def groups_of(
    kind: Kind, label: str, within: list[query.Range], server: Session | FakePuppetDB
) -> list[tuple[Any, ...]]:
    """What a server shows of groups; hashes are others here and there."""
    assert kind.marks is not None
    ast = query.record_buckets(label, kind.marks, within)
    found = [json.loads(row) for row in server.rows(kind.path, query=ast)]
    if kind.marks == "hash":
        assert all(len(row["min"]) == len(row["max"]) == 40 for row in found)
        return sorted((row["to_string"], row["count"], to_millis(row["max_2"])) for row in found)
    return sorted((row["to_string"], row["count"], to_millis(row["min"]), to_millis(row["max"])) for row in found)


@pytest.mark.parametrize("kind", [FACTS, CATALOGS, INPUTS], ids=lambda kind: str(kind.entity))
def test_groups_of_facts_catalogs_and_inputs_by_the_hour_and_by_the_minute(duel: Duel, kind: Kind) -> None:
    for number, hours in enumerate((0.1, 0.101, 0.2, 1.1, 30, 30.2, -5)):
        for name in ("facts", "catalog", "inputs"):
            duel.give(f"n{number}", name, hours, number)
    duel.give("n6", "deactivation", -6)
    duel.run()
    ranges = [(from_millis(duel.ago(start)), from_millis(duel.ago(end))) for start, end in ((31, 30.1), (0.15, -9))]
    for label in (HOUR_FORMAT, MINUTE_FORMAT):
        for within in ([], ranges):
            real, model = duel.both(partial(groups_of, kind, label, within))
            assert real == model, (label, within)
            assert real
    assert kind.listing is not None
    listing = query.in_ranges(kind.listing, ranges)

    def names_of(server: Session | FakePuppetDB) -> set[str]:
        return {json.loads(row)["certname"] for row in server.rows(kind.path, query=listing)}

    real_names, model_names = duel.both(names_of)
    assert real_names == model_names
    assert real_names


def test_the_number_of_reports_of_a_time(duel: Duel) -> None:
    for number, hours in enumerate((0.1, 1.1, 30, -5)):
        duel.give(f"n{number}", "report", hours, number)
    duel.give("n", "plan report", 2, 9)
    duel.run()
    ast = query.report_count(from_millis(duel.ago(31)), from_millis(duel.ago(0)))

    def count_of(server: Session | FakePuppetDB) -> list[int]:
        return [json.loads(row)["count"] for row in server.rows("/reports", query=ast)]

    assert duel.both(count_of) == ([4], [4])


def test_a_server_says_when_it_received_facts_and_reports_and_when_it_began(duel: Duel) -> None:
    for name in ("facts", "report"):
        duel.give("n", name, 30, 1)
    duel.run()
    servers: list[Session | FakePuppetDB] = [duel.real, duel.model]
    for server in servers:
        for ask in (newest_reports, newest_factsets):
            (when,) = ask(server, 15.0).values()
            assert abs(when - duel.now) < HOUR
        looks = [process(server, 15.0) for _ in range(4)]
        told = [look for look in looks if look is not None]
        assert len(told) == 4
        assert one_process(told[::2], told[1::2])
        assert all(look.metaspace > 1_000_000 for look in told)
        assert abs(told[0].began - duel.now) < 24 * HOUR


def names(duel: Duel, path: str, ast: list[Any]) -> tuple[list[str], list[str]]:
    """Whose rows both servers show."""

    def ask(server: Session | FakePuppetDB) -> list[str]:
        return sorted(json.loads(row)["certname"] for row in server.rows(path, query=ast))

    return ask(duel.real), ask(duel.model)
