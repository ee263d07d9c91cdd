"""What `submit`, `query`, `exported` and `nodes` ask for, and what they say of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.faults.fake import Request, answer, chunked

from .conftest import CliSite, Run

FACTS = {"environment": "production", "values": {"n": 1}, "producer": None}
KEYS = {
    "input",
    "error",
    "certname",
    "command",
    "producer_timestamp",
    "server",
    "uuid",
    "journalled",
    "servers",
    "failed_over",
    "warnings",
}


def _params(request: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.target).query))


def _asked(request: Request) -> object:
    return json.loads(request.body)


def test_each_input_has_its_entry_in_order(run: Run, site: CliSite, tmp_path: Path) -> None:
    """The good ones with what became of them, the bad ones with an error; the exit code is that of the worst."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(FACTS))
    bad.write_text("{}")
    files = [good, bad, tmp_path / "nosuch", "-"]
    ended = run(
        "submit",
        "facts",
        *files,
        "--certname",
        "a",
        "--json",
        "--config",
        site.conf,
        stdin=json.dumps(FACTS).encode(),
    )
    assert ended.code == 2
    entries = json.loads(ended.out)
    assert [entry["input"] for entry in entries] == [str(good), str(bad), str(tmp_path / "nosuch"), "standard input"]
    failed = {"input", "error", "exit_code"}
    assert [set(entry) for entry in entries] == [KEYS, failed, failed, KEYS]
    assert entries[0]["error"] is entries[3]["error"] is None
    assert "$" in entries[1]["error"]
    assert "No such file" in entries[2]["error"]
    assert [entry.get("exit_code") for entry in entries] == [None, 2, 2, None]
    assert len(ended.err.splitlines()) == 2
    assert len(site.primary.commands) == 2


def test_the_worst_exit_code_wins(run: Run, site: CliSite) -> None:
    """No server (3) is worse than a wrong input (2)."""
    down = site.configured("down.conf", [1])
    ended = run("submit", "deactivate", "a", "", "b", "--json", "--config", down)
    assert ended.code == 3
    assert [entry["exit_code"] for entry in json.loads(ended.out)] == [3, 2, 3]


def test_a_rejected_command_is_listed_with_what_the_server_said(run: Run, site: CliSite) -> None:
    """Exit 1."""
    site.primary.reply = answer({"error": "bad command"}, 400)
    ended = run("submit", "deactivate", "a", "--json", "--config", site.conf)
    (entry,) = json.loads(ended.out)
    assert (ended.code, entry["exit_code"]) == (1, 1)
    assert "bad command" in entry["error"]


def test_what_soft_write_failure_lets_go_is_told(run: Run, site: CliSite) -> None:
    """The configuration calls it a success: exit 0; the entry has the error, and no server."""
    soft = site.configured("soft.conf", [1], main="soft_write_failure = true")
    ended = run("submit", "deactivate", "a", "--json", "--config", soft)
    (entry,) = json.loads(ended.out)
    assert ended.code == 0
    assert set(entry) == KEYS
    assert (entry["server"], entry["uuid"]) == (None, None)
    assert list(entry["servers"]) == ["https://localhost:1"]
    assert entry["servers"]["https://localhost:1"]["uuid"] is None
    assert "https://localhost:1" in entry["error"]
    assert "soft_write_failure lets it go" in ended.err


def test_a_command_that_failed_over_says_so(run: Run, site: CliSite) -> None:
    """It is with the replica."""
    site.primary.reply = answer(b"", 503)
    ended = run("submit", "deactivate", "a", "--json", "--config", site.conf)
    (entry,) = json.loads(ended.out)
    assert (ended.code, entry["failed_over"]) == (0, True)
    assert entry["server"] == f"https://localhost:{site.replica.port}"
    primary = f"https://localhost:{site.primary.port}"
    assert list(entry["servers"]) == [primary, entry["server"]]
    assert entry["servers"][entry["server"]] == {"uuid": entry["uuid"], "error": None}
    assert entry["servers"][primary]["uuid"] is None
    assert "busy HTTP 503" in entry["servers"][primary]["error"]


def test_a_broadcast_lists_every_server_in_the_configured_order(run: Run, site: CliSite) -> None:
    """Also one that is dead, with its error."""
    ports = [site.primary.port, 1, site.replica.port]
    conf = site.configured("all.conf", ports, main="command_broadcast = true")
    ended = run("submit", "deactivate", "a", "b", "--json", "--config", conf)
    assert ended.code == 0
    for entry in json.loads(ended.out):
        servers = entry["servers"]
        assert list(servers) == [f"https://localhost:{port}" for port in ports]
        first, dead, last = servers.values()
        assert first == {"uuid": entry["uuid"], "error": None}
        assert (last["error"], last["uuid"] is None) == (None, False)
        assert dead["uuid"] is None
        # Of the second command it is not asked any more.
        assert "Connection refused" in dead["error"] or "it failed lately" in dead["error"]


@pytest.mark.parametrize(
    ("argv", "command", "payload"),
    [
        (["deactivate", "a"], "deactivate_node", {}),
        (["expiration", "a", "--keep-facts"], "configure_expiration", {"expire": {"facts": False}}),
        (["expiration", "--expire-facts", "a"], "configure_expiration", {"expire": {"facts": True}}),
    ],
)
def test_certnames_become_commands(
    argv: list[str], command: str, payload: dict[str, object], run: Run, site: CliSite
) -> None:
    """With the stamp that was given."""
    stamp = "2026-01-31T12:00:00.000Z"
    ended = run("submit", *argv, "--producer-timestamp", stamp, "--config", site.conf)
    assert ended.code == 0
    (sent,) = site.primary.commands
    assert {"command": command, "certname": "a", "producer-timestamp": stamp}.items() <= _params(sent).items()
    assert json.loads(sent.body) == {"certname": "a", "producer_timestamp": stamp, **payload}
    assert ended.out.split("\t")[:2] == ["a", command.replace("_", " ")]


def test_a_query_is_asked_with_its_paging(run: Run, site: CliSite) -> None:
    """--order-by several times, ascending unless said otherwise."""
    paging = ["--limit", 5, "--offset", "2", "--order-by", "certname:desc", "--order-by", "deactivated"]
    ended = run("query", '["=", "certname", "a"]', "--path", "nodes", *paging, "--config", site.conf)
    assert ended.code == 0
    (query,) = site.primary.queries
    assert urlsplit(query.target).path == "/pdb/query/v4/nodes"
    assert _asked(query) == {
        "query": ["=", "certname", "a"],
        "limit": 5,
        "offset": 2,
        "order_by": [{"field": "certname", "order": "desc"}, {"field": "deactivated", "order": "asc"}],
    }


def test_a_query_may_come_from_standard_input(run: Run, site: CliSite) -> None:
    """A byte order mark is none of it."""
    assert run("query", "-", "--config", site.conf, stdin="\ufeffnodes { certname = 'ü' }".encode()).code == 0
    assert _asked(site.primary.queries[0]) == {"query": "nodes { certname = 'ü' }"}


def test_exported_asks_what_a_collector_asks(run: Run, site: CliSite) -> None:
    """For the node, of the type, with the condition."""
    ended = run("exported", "sshkey", "--for", "a", "tag == 'Web'", "--config", site.conf)
    assert ended.code == 0
    (query,) = site.primary.queries
    assert urlsplit(query.target).path == "/pdb/query/v4/resources"
    condition = [
        "and",
        ["=", "type", "Sshkey"],
        ["=", "exported", True],
        ["not", ["=", "certname", "a"]],
        ["=", "tag", "web"],
    ]
    assert _asked(query) == {"query": condition}


@pytest.mark.parametrize("state", ["active", "inactive", "any"])
def test_nodes_asks_for_a_state(state: str, run: Run, site: CliSite) -> None:
    """In the order of their names."""
    assert run("nodes", "--state", state, "--config", site.conf).code == 0
    (query,) = site.primary.queries
    assert _asked(query) == {
        "query": ["=", "node_state", state],
        "order_by": [{"field": "certname"}],
    }


@pytest.mark.parametrize("option", [[], ["--json"], ["--lines"]])
def test_an_answer_of_the_replica_is_marked_on_standard_error(option: list[str], run: Run, site: CliSite) -> None:
    """Standard output is the same as from the primary."""
    rows = [{"certname": "a"}]
    site.replica.reply = site.primary.reply = answer(rows)
    before = run("query", "nodes{}", *option, "--config", site.conf)
    site.primary.reply = answer(b"", 503)
    after = run("query", "nodes{}", *option, "--config", site.conf)
    assert (before.code, after.code, before.err) == (0, 0, "")
    assert after.out == before.out
    assert f"answered by https://localhost:{site.replica.port}: https://localhost:{site.primary.port}" in after.err


def test_lines_are_json_one_a_row(run: Run, site: CliSite) -> None:
    """Each line is a document."""
    rows = [{"certname": "a", "n": {"x": [1]}}, {"certname": "b"}]
    site.primary.reply = answer(rows)
    out = run("query", "nodes{}", "--lines", "--config", site.conf).out
    assert [json.loads(line) for line in out.splitlines()] == rows


def test_a_broken_answer_is_never_a_short_one(run: Run, site: CliSite) -> None:
    """The replica is asked; when its answer breaks too, nothing is printed and the exit code is 3."""
    broken = chunked([b'[{"certname": "a"},', b'{"certname": "b"'], end=False)
    site.primary.reply = broken
    site.replica.reply = answer([{"certname": "a"}, {"certname": "b"}])
    whole = run("query", "nodes{}", "--json", "--config", site.conf)
    assert (whole.code, json.loads(whole.out)) == (0, [{"certname": "a"}, {"certname": "b"}])
    site.replica.reply = broken
    nothing = run("query", "nodes{}", "--json", "--config", site.conf)
    assert (nothing.code, nothing.out) == (3, "")


def test_lines_that_break_off_end_with_three(run: Run, site: CliSite) -> None:
    """The rows before the break are there, and the exit code says that they are not all."""
    site.primary.reply = chunked([b'[{"certname": "a"},\n', b'{"certname": "b"'], end=False)
    ended = run("query", "nodes{}", "--lines", "--config", site.conf)
    assert ended.code == 3
    assert ended.out == '{"certname": "a"}\n'
    assert f"https://localhost:{site.primary.port}" in ended.err
