"""The command line as users call it, on a real pair."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from tests import matrix, soak
from tests.ended import Ended

pytestmark = pytest.mark.integration

Json = dict[str, Any]
PRIMARY, REPLICA = "primary", "replica"
LONG = 240.0
NODE = "web1.example.com"
ODD = [
    "a b.example",
    "ümläut%20.example",
    "100%.example",
    "a/b?c=d&e#f",
    "esc\x1b[31m.example",
    "-dash",
    "語.example",
]


def pdbclient(*argv: object, stdin: str = "") -> Ended:
    """Run `pdbclient` in a child; whatever happens, it prints no traceback."""
    command = [sys.executable, "-m", "pdbclient", *map(str, argv)]
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=LONG, check=False)
    assert "Traceback" not in ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


class PairCommands:
    """The pair, and commands that know its configuration."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self._directory = directory
        self._now = datetime.now(UTC)
        self._samples = Samples(lab.puppetdb_jar)
        self.urls = {node.name: node.url for node in lab.nodes}

    def run(self, *argv: object, stdin: str = "") -> Ended:
        return pdbclient(*argv, "--config", self.lab.puppetdb_conf, stdin=stdin)

    def done(self, *argv: object, stdin: str = "") -> Any:
        """The JSON of a command that must succeed without a word on standard error."""
        ended = self.run(*argv, "--json", stdin=stdin)
        assert (ended.code, ended.err) == (0, "")
        return ended.json

    def submitted(self, *argv: object, to: str = PRIMARY, stdin: str = "") -> list[Json]:
        """Submit, and wait until `to` has applied it."""
        entries: list[Json] = self.done("submit", *argv, stdin=stdin)
        assert {entry["server"] for entry in entries} == {self.urls[to]}
        self.lab.settle(to)
        assert self.lab.discarded(to) == ()
        return entries

    def payload(self, kind: str, certname: str = NODE, index: int = 0) -> Json:
        if kind == "inputs":
            stamp = self._now.isoformat(timespec="milliseconds")
            uuid = "4794d936-2151-4625-9476-150ff4245391"
            inputs = [["hiera", "profile::web"]]
            return {"certname": certname, "catalog_uuid": uuid, "producer_timestamp": stamp, "inputs": inputs}
        make = {"facts": self._samples.facts, "catalog": self._samples.catalog, "report": self._samples.report}
        return make[kind](certname, index, self._now - timedelta(minutes=1))

    def file(self, kind: str, certname: str = NODE, index: int = 0) -> Path:
        path = self._directory / f"{kind}-{index}.json"
        path.write_text(json.dumps(self.payload(kind, certname, index)))
        return path

    def start(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.lab.fault(name, "start"), self.urls))


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[PairCommands]:
    site = PairCommands(pair, tmp_path)
    yield site
    # Those that follow find both running, also after a failure in the middle of an outage.
    site.start()


@pytest.mark.parametrize(
    ("kind", "entity", "fields"),
    [
        ("facts", "factsets", {"environment": "production"}),
        ("catalog", "catalogs", {"producer": "puppet.example.com"}),
        ("inputs", "catalog-inputs", {"inputs": [["hiera", "profile::web"]]}),
        ("report", "reports", {"report_format": 10}),
    ],
)
def test_a_file_of_each_kind_arrives(kind: str, entity: str, fields: Json, site: PairCommands) -> None:
    """Submitted from a file, it is found by a query."""
    (entry,) = site.submitted(kind, site.file(kind))
    assert (entry["certname"], entry["failed_over"], entry["error"]) == (NODE, False, None)
    (row,) = site.done("query", "--path", entity, json.dumps(["=", "certname", NODE]))
    assert fields.items() <= row.items()


def test_files_and_standard_input_in_one_call(site: PairCommands) -> None:
    """Three nodes; a wrong file between them does not stop them, and is told."""
    payload = json.dumps(site.payload("facts", "c.example", 2))
    wrong = site.file("report", "d.example", 3)
    files = [site.file("facts", "a.example", 0), wrong, site.file("facts", "b.example", 1), "-"]
    ended = site.run("submit", "facts", *files, "--json", stdin=payload)
    assert ended.code == 2
    assert [entry.get("certname") for entry in ended.json] == ["a.example", None, "b.example", "c.example"]
    assert str(wrong) in ended.err
    site.lab.settle(PRIMARY)
    assert [row[0] for row in site.run("nodes").rows] == ["a.example", "b.example", "c.example"]


def test_certnames_of_any_kind_are_deactivated(site: PairCommands) -> None:
    """As they are given, percent signs and control characters included; no terminal gets those raw."""
    arguments = [certname for certname in ODD if not certname.startswith("-")]
    site.submitted("deactivate", *arguments)
    assert site.run("submit", "deactivate", "--", "-dash").code == 2  # --config is a certname after the dashes
    entries = pdbclient("submit", "deactivate", "--config", site.lab.puppetdb_conf, "--json", "--", "-dash").json
    assert [entry["certname"] for entry in entries] == ["-dash"]
    site.lab.settle(PRIMARY)
    assert {row["certname"] for row in site.done("nodes", "--state", "inactive")} == set(ODD)
    assert site.done("nodes") == []
    table = site.run("nodes", "--state", "any")
    assert len(table.rows) == len(ODD)
    assert r"esc\x1b[31m.example" in table.out
    assert "\x1b" not in table.out


@pytest.mark.every_server
def test_expiration_of_facts_is_configured(site: PairCommands) -> None:
    """Kept for one, expired for another, as of the time given."""
    stamp = ["--producer-timestamp", "2026-01-31T12:00:00+01:00"]
    site.submitted("expiration", "--keep-facts", "a.example", *stamp)
    site.submitted("expiration", "b.example", "--expire-facts", *stamp)
    rows = site.lab.sql(
        PRIMARY,
        "select certname, expire, extract(epoch from updated)::int from certname_fact_expiration "
        "join certnames on certnames.id = certid order by certname",
    )
    epoch = str(int(datetime(2026, 1, 31, 11, tzinfo=UTC).timestamp()))
    assert rows == [("a.example", "f", epoch), ("b.example", "t", epoch)]


@pytest.mark.every_server
def test_exported_resources_are_collected_with_a_filter(site: PairCommands) -> None:
    """Of the other nodes only, as a table and as JSON."""
    site.submitted("catalog", site.file("catalog", "a.example", 0), site.file("catalog", "b.example", 1))
    assert {row["certname"] for row in site.done("exported", "Sshkey", "--for", "new.example")} == {
        "a.example",
        "b.example",
    }
    (row,) = site.done("exported", "file", "tag == 'haproxy' and mode == '0644'", "--for", "a.example")
    assert (row["certname"], row["title"]) == ("b.example", "/etc/haproxy/conf.d/b.example.cfg")
    assert site.done("exported", "File", "--for", "a.example", "title != '/etc/haproxy/conf.d/b.example.cfg'") == []
    table = site.run("exported", "Sshkey", "--for", "b.example")
    assert [line[:3] for line in table.rows] == [["a.example", "Sshkey", "a.example"]]


@pytest.mark.every_server
def test_queries_in_every_form(site: PairCommands) -> None:
    """PQL and AST, paged and sorted, whole and row by row, from an argument and from standard input."""
    site.submitted("facts", *(site.file("facts", f"n{index}.example", index) for index in range(3)))
    names = [{"certname": f"n{index}.example"} for index in range(3)]
    pql = "nodes[certname] { certname ~ 'example' }"
    newest_first = ["--order-by", "certname:desc"]
    assert site.done("query", pql, "--order-by", "certname") == names
    assert site.done("query", pql, *newest_first, "--limit", 1, "--offset", 1) == [names[1]]
    ast = json.dumps(["from", "nodes", ["extract", ["certname"], ["~", "certname", "example"]]])
    assert site.done("query", ast, *newest_first) == names[::-1]
    assert site.done("query", "-", "--order-by", "certname", stdin=pql) == names
    lines = site.run("query", pql, "--lines", "--order-by", "certname")
    assert [json.loads(line) for line in lines.out.splitlines()] == names
    assert site.run("query", pql, *newest_first).out == "n2.example\nn1.example\nn0.example\n"


@pytest.mark.parametrize("query", ["nodes {", "nosuch {}", '["=", "nosuch", 1]'])
def test_a_query_that_the_server_refuses(query: str, site: PairCommands) -> None:
    """Exit 1 with the server's reason; the replica is not asked, and nothing is printed."""
    path = ["--path", "nodes"] if query.startswith("[") else []
    ended = site.run("query", query, *path, "--json")
    assert (ended.code, ended.out) == (1, "")
    assert f"{site.urls[PRIMARY]}: HTTP 400" in ended.err
    assert site.urls[REPLICA] not in ended.err


def test_the_configuration_and_the_lab_are_well(idle: Lab, site: PairCommands) -> None:
    """`config check`, `status` and `lab status` of a pair that runs."""
    checked = site.done("config", "check", "--sync", site.lab.sync_conf(PRIMARY))
    assert checked["ok"] is True
    assert checked["puppetdb.conf"]["settings"]["server_urls"]["value"] == list(site.urls.values())
    status = site.done("status")
    assert [(s["state"], s["queue_depth"], s["error"]) for s in status["servers"]] == [("running", 0, None)] * 2
    assert status["next"] == {"command": site.urls[PRIMARY], "query": site.urls[PRIMARY]}
    lab = pdbclient("lab", "status", "--json", "--dir", site.lab.directory)
    assert [(node["puppetdb"], node["postgres"]) for node in lab.json["nodes"]] == [("running", "running")] * 2


@pytest.mark.soak
@pytest.mark.every_server("8.8.1+7.12.1", own=soak.LONG)
def test_an_outage_from_its_beginning_to_its_end(site: PairCommands) -> None:
    """Primary down: everything goes on at the replica, and says so. Both down: exit 3. Then `sync` levels them."""
    primary, replica = site.urls.values()
    site.lab.fault(PRIMARY, "kill")
    submit = site.run("submit", "facts", site.file("facts"), "--json")
    assert submit.code == 0
    assert (submit.json[0]["server"], submit.json[0]["failed_over"]) == (replica, True)
    site.lab.settle(REPLICA)

    status = site.run("status", "--json")
    assert (status.code, [s["state"] for s in status.json["servers"]]) == (1, ["unreachable", "running"])
    assert status.json["next"] == {"command": replica, "query": replica}
    query = site.run("nodes", "--json")
    assert (query.code, [row["certname"] for row in query.json]) == (0, [NODE])
    assert f"answered by {replica}: {primary}: not sent" in query.err

    site.lab.fault(REPLICA, "kill")
    assert [s["state"] for s in site.run("status", "--json").json["servers"]] == ["unreachable"] * 2
    calls = (["status"], ["nodes"], ["query", "nodes{}", "--lines"], ["submit", "deactivate", NODE])
    assert [site.run(*call).code for call in calls] == [3, 3, 3, 3]

    site.start()
    assert site.done("nodes") == []
    conf = site.lab.sync_conf(PRIMARY)
    first, second = (pdbclient("sync", "once", "--config", conf, "--json") for _ in range(2))
    assert (first.code, first.json[0]["transferred"]["facts"]) == (0, 1)
    assert (second.code, second.json[0]["transferred"]["facts"]) == (0, 0)
    assert [row["certname"] for row in site.done("nodes")] == [NODE]


@pytest.mark.soak
@pytest.mark.parametrize("pair", matrix.share(str(matrix.OWN_PAIR), long=["8.8.1+8.4.1"]), ids=str)
def test_the_demo_plays_to_its_end_and_leaves_nothing(pair: matrix.Pair) -> None:
    """One JSON line with every figure, exit 0, no server that still listens, no directory that is left."""
    before = _demo_directories()
    options = [] if pair == matrix.OWN_PAIR else pair.arguments()
    ended = pdbclient("demo", "--nodes", 4, *options)
    assert ended.code == 0
    for name, version in zip((PRIMARY, REPLICA), pair.held, strict=True):
        assert f"{name}: PuppetDB {version} is running" in ended.err
    assert ended.out.count("\n") == 1
    told = ended.json
    assert set(told) == {
        "submitted",
        "lost",
        "failover_ms",
        "transferred",
        "converged",
        "second_pass_transferred",
    }
    assert (told["submitted"], told["lost"], told["second_pass_transferred"]) == (12, 0, 0)
    assert told["converged"] is True
    assert 0 <= told["failover_ms"] < 5000
    # Seven commands went to the primary before it died and five to the replica; each lacks the other's.
    assert told["transferred"] == {"nodes": 0, "facts": 4, "catalogs": 4, "reports": 4}
    assert [line[0] for line in ended.err.splitlines() if re.match(r"\d\. ", line)] == list("0123456")

    ports = [int(port) for port in re.findall(r"(?:starts on port |localhost:)(\d+)", ended.err)]
    assert len(set(ports)) == 4
    assert [port for port in ports if _listens(port)] == []
    assert _demo_directories() <= before


def _demo_directories() -> set[Path]:
    return set(Path("/var/tmp").glob("pdbclient-demo-*"))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
