"""`pdbclient journal` and `pdbclient recover`, on a journal's file and PuppetDBs that are not."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pdbclient.journal import CopyState, Journal
from pdbclient.journal.ledger import deliveries, entries
from pdbclient.journal.model import ANY, Copy
from pdbclient.journal.work import leases
from pdbclient.wire.command import Command
from tests.ended import Ended
from tests.faults.fake import Answer, Request, answer, healthy, queued

from .conftest import CliSite, Run

SECRET = b'{"certname":"web1","values":{"password":"hunter2"}}'
STAMP = "2026-01-01T00:00:00.000Z"
GONE = "https://gone.example:8081"
"""A server that is not configured any more."""


class Filled:
    """A puppetdb.conf with a journal, in which a test puts entries; closed whenever a command runs."""

    def __init__(self, site: CliSite, directory: Path) -> None:
        self.place = directory / "journal.db"
        self.a = f"https://localhost:{site.primary.port}"
        self.conf = site.conf
        self.conf.write_text(f"{site.conf.read_text()}journal = {self.place}\n")
        Journal.open(str(self.place)).close()

    def put(self, certname: str = "web1", *copies: Copy, body: bytes = SECRET) -> int:
        command = Command.ready("replace facts", 5, certname, STAMP, body)
        with Journal.open(str(self.place), beside=True) as journal:
            entry = journal.append(command, [ANY]).result()
            if copies:
                journal.run(deliveries.ack, entry.id, copies)
            return entry.id

    def on_a(self, certname: str = "web1", body: bytes = SECRET) -> int:
        return self.put(certname, Copy(self.a, CopyState.ACCEPTED, f"uuid-{certname}", 1.0), body=body)

    def parked(self, certname: str = "web1") -> int:
        return self.put(certname, Copy(self.a, CopyState.REJECTED, None, 1.0, "HTTP 400: bad"))

    def state(self, entry: int) -> str | None:
        with Journal.open(str(self.place), beside=True) as journal:
            found = journal.run(entries.show, str(entry))
        return None if found is None else str(found.state)


@pytest.fixture
def filled(site: CliSite, tmp_path: Path) -> Filled:
    return Filled(site, tmp_path)


ALL = (
    ("journal", "status"),
    ("journal", "list"),
    ("journal", "show", "1"),
    ("journal", "retry", "1"),
    ("journal", "drop", "1"),
    ("journal", "prune"),
    ("journal", "verify"),
    ("recover", "--server", "https://localhost:1"),
)


@pytest.mark.parametrize("argv", ALL, ids=[" ".join(argv[:2]) for argv in ALL])
def test_without_a_journal_it_says_what_to_add(argv: tuple[str, ...], run: Run, site: CliSite) -> None:
    ended = run(*argv, "--config", site.conf)
    assert (ended.code, ended.out) == (2, "")
    assert str(site.conf) in ended.err
    assert "journal = /var/lib/pdbclient/journal.db" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("argv", ALL, ids=[" ".join(argv[:2]) for argv in ALL])
def test_a_journal_that_nobody_made_yet_is_not_made_by_looking(
    argv: tuple[str, ...], run: Run, filled: Filled, tmp_path: Path
) -> None:
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    ended = run(*argv, "--config", filled.conf)
    assert (ended.code, ended.out) == (4, "")
    assert "there is no journal yet" in ended.err
    assert not filled.place.exists()


@pytest.mark.parametrize("argv", ALL[:-1], ids=[" ".join(argv[:2]) for argv in ALL[:-1]])
def test_every_command_works_beside_the_process_that_has_the_journal(
    argv: tuple[str, ...], run: Run, filled: Filled
) -> None:
    filled.parked()
    with Journal.open(str(filled.place)):
        extra = ["--yes"] if "drop" in argv else []
        assert run(*argv, *extra, "--config", filled.conf).code == 0


def test_status_tells_what_there_is_what_is_pending_and_who_is_at_work(run: Run, filled: Filled) -> None:
    filled.on_a("a")
    filled.parked("b")
    filled.put("c")
    told = json.loads(run("journal", "status", "--json", "--config", filled.conf).out)
    assert told["journal"] == str(filled.place)
    assert told["entries"] == {"pending": 1, "delivered": 1, "parked": 1}
    assert told["pending"] == [{"server": None, "entries": 1}]
    assert told["bytes"] > 0
    assert told["oldest_pending"].endswith("Z")
    assert told["held_by"] is None
    assert told["on_no_configured_server"] == 0
    with Journal.open(str(filled.place)):
        ended = run("journal", "status", "--config", filled.conf)
    assert f"held by pid\t{os.getpid()}\n" in ended.out
    assert "pending for any server\t1\n" in ended.out


def test_a_password_in_the_journals_url_is_not_shown(run: Run, site: CliSite) -> None:
    site.conf.write_text(f"{site.conf.read_text()}journal = postgresql://u:hunter2@127.0.0.1:1/j?connect_timeout=1\n")
    for argv in ALL:
        ended = run(*argv, "--config", site.conf)
        assert ended.code == 4
        assert "hunter2" not in ended.out + ended.err


def test_list_has_one_line_an_entry_and_its_filters(run: Run, filled: Filled) -> None:
    first, second, third = filled.on_a("a"), filled.parked("b"), filled.put("c")

    def ids(*options: str) -> list[int]:
        told = json.loads(run("journal", "list", "--json", *options, "--config", filled.conf).out)
        return [entry["id"] for entry in told]

    assert ids() == [first, second, third]
    assert ids("--state", "parked") == [second]
    assert ids("--certname", "c") == [third]
    assert ids("--since", "1h") == [first, second, third]
    assert ids("--since", "2999-01-01T00:00:00Z") == []
    assert ids("--limit", "2") == [first, second]
    plain = run("journal", "list", "--limit", "2", "--config", filled.conf)
    rows = [line.split("\t") for line in plain.out.splitlines()]
    assert [(row[0], row[2], row[4], row[6], row[7]) for row in rows] == [
        (str(first), "delivered", "a", filled.a, "-"),
        (str(second), "parked", "b", "-", "HTTP 400: bad"),
    ]
    assert "--limit" in plain.err


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01", "5", "-1h", "2026-01-01T00:00:00"])
def test_a_since_that_is_no_moment_is_said(since: str, run: Run, filled: Filled) -> None:
    ended = run("journal", "list", f"--since={since}", "--config", filled.conf)
    assert ended.code == 2
    assert "an age like 2h" in ended.err


def test_show_finds_an_entry_by_its_id_its_uuid_and_a_servers(run: Run, filled: Filled) -> None:
    entry = filled.on_a("web1")

    def shown(name: object) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(run("journal", "show", name, "--json", "--config", filled.conf).out)
        return told

    first = shown(entry)
    assert first == shown(first["uuid"]) == shown("uuid-web1")
    assert (first["command"], first["certname"], first["producer_timestamp"]) == ("replace facts", "web1", STAMP)
    (copy,) = first["copies"]
    assert (copy["server"], copy["state"], copy["uuid"]) == (filled.a, "accepted", "uuid-web1")
    plain = run("journal", "show", str(entry), "--config", filled.conf)
    assert f"{filled.a}\taccepted\tuuid-web1" in plain.out


def test_a_body_is_shown_only_when_asked_for_and_then_exactly(run: Run, filled: Filled) -> None:
    large = b'{"certname":"web1","password":"hunter2",  "x":"' + b"y" * 5000 + b'"}'
    entry = filled.on_a(body=large)
    for argv in (["show", entry], ["show", entry, "--json"], ["list"], ["list", "--json"], ["status"]):
        ended = run("-v", "journal", *argv, "--config", filled.conf)
        assert ended.code == 0
        assert "hunter2" not in ended.out + ended.err
    assert run("journal", "show", entry, "--body", "--config", filled.conf) == Ended(0, large.decode(), "")
    with Journal.open(str(filled.place), beside=True) as journal:
        packed = Command.ready("replace facts", 5, "web1", STAMP, large).gzipped()
        other = journal.append(packed, [ANY]).result().id
    assert run("journal", "show", other, "--body", "--config", filled.conf) == Ended(0, large.decode(), "")


def test_a_body_that_is_no_gzip_is_said(run: Run, filled: Filled) -> None:
    whole = Command.ready("replace facts", 5, "web1", STAMP, SECRET).gzipped()
    for body in (whole.body[:10] + b"\xff" + whole.body[11:], whole.body[:-9], b"x" + whole.body):
        with Journal.open(str(filled.place), beside=True) as journal:
            broken = Command.ready("replace facts", 5, "web1", STAMP, body, "gzip", whole.length)
            entry = journal.append(broken, [ANY]).result().id
        ended = run("journal", "show", entry, "--body", "--config", filled.conf)
        assert (ended.code, ended.out) == (4, "")
        assert "not the gzip that it was said to be" in ended.err


@pytest.mark.parametrize("argv", [["show"], ["list", "--certname"]])
def test_bytes_that_are_no_text_are_in_no_journal(argv: list[str], run: Run, filled: Filled) -> None:
    ended = run("journal", *argv, os.fsdecode(b"a\xff"), "--config", filled.conf)
    assert ended.code == 2
    assert "not UTF-8" in ended.err


def test_what_is_not_there_is_said(run: Run, filled: Filled) -> None:
    for argv in (["show", "7"], ["show", "no-uuid"], ["drop", "7"], ["retry", "7"]):
        ended = run("journal", *argv, "--config", filled.conf)
        assert ended.code == 1
        assert "no " in ended.err
        assert ended.out == ""


def test_retry_owes_parked_entries_again(run: Run, filled: Filled) -> None:
    first, second, third = filled.parked("a"), filled.parked("b"), filled.on_a("c")
    ended = run("journal", "retry", str(first), str(third), "--json", "--config", filled.conf)
    assert ended.code == 1
    assert json.loads(ended.out) == {"retried": [first], "nothing_to_retry": [third]}
    assert [filled.state(entry) for entry in (first, second, third)] == ["pending", "parked", "delivered"]
    assert run("journal", "retry", "--all-parked", "--config", filled.conf).out == f"{second}\n"
    assert filled.state(second) == "pending"
    assert run("journal", "retry", "--all-parked", "--config", filled.conf).code == 0


@pytest.mark.parametrize("argv", [[], ["1", "--all-parked"]])
def test_retry_needs_ids_or_all_not_both(argv: list[str], run: Run, filled: Filled) -> None:
    ended = run("journal", "retry", *argv, "--config", filled.conf)
    assert ended.code == 2
    assert "--all-parked" in ended.err


def test_drop_asks_before_it_drops_what_nobody_else_has(run: Run, filled: Filled) -> None:
    there, parked, pending = filled.on_a("a"), filled.parked("b"), filled.put("c")
    ended = run("journal", "drop", str(there), str(parked), str(pending), "--config", filled.conf)
    assert ended.code == 1
    assert f"no configured server has {parked}, {pending}: --yes" in ended.err
    assert filled.state(there) == "delivered", "all or nothing"
    assert run("journal", "drop", str(there), "--config", filled.conf).code == 0
    assert filled.state(there) is None
    ended = run("journal", "drop", str(parked), str(pending), "--yes", "--json", "--config", filled.conf)
    assert json.loads(ended.out) == {"dropped": 2}
    assert filled.state(pending) is None


def test_what_only_a_server_has_that_is_not_configured_any_more_nobody_has(run: Run, filled: Filled) -> None:
    """It was dropped by size, and by hand without a question."""
    entry = filled.put("a", Copy(GONE, CopyState.ACCEPTED, None, 1.0))
    filled.conf.write_text(f"{filled.conf.read_text()}journal_max_bytes = 1\njournal_max_age = 36500d\n")
    assert json.loads(run("journal", "prune", "--json", "--config", filled.conf).out) == {"dropped": 0}
    ended = run("journal", "drop", str(entry), "--config", filled.conf)
    assert ended.code == 1
    assert f"no configured server has {entry}: --yes" in ended.err
    assert filled.state(entry) == "delivered"
    filled.on_a("b")
    told = run("journal", "status", "--json", "--config", filled.conf).out
    assert json.loads(told)["on_no_configured_server"] == 1
    assert "delivered, on no configured server\t1\n" in run("journal", "status", "--config", filled.conf).out
    assert run("journal", "drop", str(entry), "--yes", "--config", filled.conf).code == 0
    assert "on no configured server" not in run("journal", "status", "--config", filled.conf).out


def test_prune_drops_what_is_old_and_on_a_server(run: Run, filled: Filled) -> None:
    kept = filled.put("a")
    gone = [filled.on_a(f"b{n}") for n in range(3)]
    assert json.loads(run("journal", "prune", "--json", "--config", filled.conf).out) == {"dropped": 0}
    filled.conf.write_text(f"{filled.conf.read_text()}journal_max_bytes = 1\n")
    assert json.loads(run("journal", "prune", "--json", "--config", filled.conf).out) == {"dropped": 3}
    assert filled.state(kept) == "pending"
    assert [filled.state(entry) for entry in gone] == [None] * 3


def test_verify_reads_everything_and_tells_what_is_damaged(run: Run, filled: Filled) -> None:
    ids = [filled.on_a(f"n{n}") for n in range(5)]
    ended = run("journal", "verify", "--config", filled.conf)
    assert (ended.code, ended.out) == (0, "")
    assert "5 entries checked, 0 damaged" in ended.err
    with closing(sqlite3.connect(filled.place)) as connection, connection:
        connection.execute("UPDATE entries SET body = x'00' WHERE id = ?", (ids[3],))
    ended = run("journal", "verify", "--json", "--config", filled.conf)
    assert ended.code == 4
    told = json.loads(ended.out)
    assert (told["entries"], told["structure"]) == (5, [])
    assert [entry["id"] for entry in told["damaged"]] == [ids[3]]
    ended = run("journal", "show", str(ids[3]), "--body", "--config", filled.conf)
    assert (ended.code, ended.out) == (4, "")
    assert "damaged" in ended.err


def test_one_damaged_entry_leaves_the_list_and_can_be_dropped(run: Run, filled: Filled) -> None:
    ids = [filled.on_a(f"n{n}") for n in range(3)]
    with closing(sqlite3.connect(filled.place)) as connection, connection:
        connection.execute("UPDATE copies SET state = 'acceptee' WHERE entry = ?", (ids[0],))
    ended = run("journal", "list", "--limit", "2", "--json", "--config", filled.conf)
    assert ended.code == 0
    assert [entry["id"] for entry in json.loads(ended.out)] == ids[1:]
    assert run("journal", "verify", "--config", filled.conf).code == 4
    assert run("journal", "show", str(ids[0]), "--config", filled.conf).code == 4
    assert run("journal", "drop", str(ids[0]), "--config", filled.conf).code == 1, "nobody knows who has it"
    assert run("journal", "drop", "--yes", str(ids[0]), "--config", filled.conf).code == 0
    assert run("journal", "verify", "--config", filled.conf).code == 0


def test_a_time_that_was_damaged_ends_nothing(run: Run, filled: Filled) -> None:
    bad, good, copied = filled.put("a"), filled.put("b"), filled.on_a("c")
    with closing(sqlite3.connect(filled.place)) as connection, connection:
        connection.execute("UPDATE entries SET received = 3.26e28 WHERE id = ?", (bad,))
        connection.execute("UPDATE copies SET at = 1e300 WHERE entry = ?", (copied,))
        connection.execute("INSERT INTO pruned VALUES ('store report', 1e300)")
    ended = run("journal", "status", "--json", "--config", filled.conf)
    assert json.loads(ended.out)["dropped_until"] == {"store report": "damaged: 1e+300"}
    assert json.loads(ended.out)["oldest_pending"].startswith("20")
    ended = run("journal", "list", "--json", "--config", filled.conf)
    assert [entry["id"] for entry in json.loads(ended.out)] == [good]
    for entry in (bad, copied):
        ended = run("journal", "show", str(entry), "--config", filled.conf)
        assert (ended.code, ended.out) == (4, "")
        assert f"entry {entry}: " in ended.err
    ended = run("journal", "verify", "--json", "--config", filled.conf)
    assert ended.code == 4
    told = json.loads(ended.out)
    assert [entry["id"] for entry in told["damaged"]] == [bad, copied]
    assert told["structure"] == ["store report was dropped until 1e+300, which is no time"]


@pytest.mark.parametrize("number", ["99999999999999999999", str(1 << 63)])
@pytest.mark.parametrize("command", ["retry", "drop", "show"])
def test_no_entry_has_a_number_that_the_database_does_not_know(
    run: Run, filled: Filled, command: str, number: str
) -> None:
    ended = run("journal", command, number, "--config", filled.conf)
    assert ended.code == 1
    assert number in ended.err
    assert "no" in ended.err
    assert run("journal", command, str((1 << 63) - 1), "--config", filled.conf).code == 1


def test_verify_leaves_the_structure_alone_while_a_gateway_works(run: Run, filled: Filled) -> None:
    with Journal.open(str(filled.place)):
        ended = run("journal", "verify", "--json", "--config", filled.conf)
    assert ended.code == 0
    assert json.loads(ended.out)["structure"] is None
    assert str(os.getpid()) in ended.err


# -- recover

RECOVER = ("recover", "--node-ttl", "0s", "--server")
"""The commands here are older than any node-ttl."""


class Empty:
    """A PuppetDB that takes facts and shows them."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            certname = request.target.partition("certname=")[2].partition("&")[0]
            self.facts[certname] = STAMP
            return queued()
        if request.target.startswith("/pdb/query/v4/factsets"):
            return answer([{"certname": name, "producer_timestamp": stamp} for name, stamp in self.facts.items()])
        return healthy(request)


@pytest.fixture
def replica(site: CliSite) -> str:
    site.replica.reply = Empty()
    return f"https://localhost:{site.replica.port}"


def test_recover_sends_a_server_what_it_lacks_and_says_so(
    run: Run, site: CliSite, filled: Filled, replica: str
) -> None:
    for certname in ("a", "b"):
        filled.on_a(certname)
    ended = run(*RECOVER, replica, "--dry-run", "--config", filled.conf)
    assert ended.code == 1
    assert ended.out.splitlines() == ["looked at\t2", "had\t0", "lacked: replace facts\t2"]
    assert "lacks 2 commands; nothing was changed" in ended.err
    assert site.replica.commands == []
    ended = run(*RECOVER, replica, "--json", "--config", filled.conf)
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["looked_at"], told["had"], told["replayed"], told["verified"]) == (2, 0, 2, 2)
    assert [request.body for request in site.replica.commands] == [SECRET, SECRET]
    ended = run(*RECOVER, replica, "--config", filled.conf)
    assert ended.code == 0
    assert "has all that the journal has" in ended.err
    assert len(site.replica.commands) == 2
    assert site.primary.requests == []


def test_recover_says_what_was_rejected(run: Run, site: CliSite, filled: Filled, replica: str) -> None:
    entry = filled.on_a("a")
    site.replica.reply = lambda request: answer({"error": "bad"}, 400) if request.is_command else healthy(request)
    ended = run(*RECOVER, replica, "--config", filled.conf)
    assert ended.code == 1
    assert f"rejected: {entry} (replace facts of a): HTTP 400: " in ended.err
    assert "hunter2" not in ended.err + ended.out


def test_nodes_older_than_node_ttl_are_left_out_and_that_is_said(
    run: Run, site: CliSite, filled: Filled, replica: str
) -> None:
    """J16: they were sent, and active until the server's next collection."""
    filled.on_a("a")
    ended = run("recover", "--server", replica, "--config", filled.conf)
    assert (ended.code, site.replica.commands) == (0, [])
    assert "left out, older than node-ttl\t1" in ended.out.splitlines()
    assert "left out are 1 of nodes that have been silent for longer than node-ttl (--node-ttl)" in ended.err
    ended = run("recover", "--server", replica, "--node-ttl", "36500d", "--json", "--config", filled.conf)
    assert (ended.code, json.loads(ended.out)["expired"], len(site.replica.commands)) == (0, 0, 1)
    assert run("recover", "--server", replica, "--node-ttl", "7", "--config", filled.conf).code == 2


def test_a_server_that_is_being_recovered_is_not_recovered_beside_that(
    run: Run, site: CliSite, filled: Filled, replica: str
) -> None:
    """J17: both sent it all."""
    filled.on_a("a")
    with Journal.open(str(filled.place)) as journal, leases.hold(journal, f"recovery of {replica}"):
        ended = run(*RECOVER, replica, "--config", filled.conf)
        assert (ended.code, ended.out, site.replica.commands) == (4, "", [])
        assert f"recovery of {replica}: another process is at it ({journal.owner}): it is free again" in ended.err
        assert run(*RECOVER, replica, "--dry-run", "--config", filled.conf).code == 1, "looking is no harm"
    assert run(*RECOVER, replica, "--config", filled.conf).code == 0


def test_recover_takes_only_a_server_of_the_configuration(run: Run, filled: Filled, replica: str) -> None:
    ended = run("recover", "--server", "https://other:8081", "--config", filled.conf)
    assert (ended.code, ended.out) == (2, "")
    assert "https://other:8081 is not one of the servers: " in ended.err
    assert replica in ended.err
    assert run("recover", "--server", "http://other", "--config", filled.conf).code == 2
    assert run("recover", "--config", filled.conf).code == 2


def test_a_server_that_is_down_is_three(run: Run, site: CliSite, filled: Filled) -> None:
    filled.on_a("a")
    conf = site.configured("down.conf", [1, 2])
    conf.write_text(f"{conf.read_text()}journal = {filled.place}\n")
    ended = run("recover", "--server", "https://localhost:1", "--config", conf)
    assert (ended.code, ended.out) == (3, "")
    assert "https://localhost:1" in ended.err
