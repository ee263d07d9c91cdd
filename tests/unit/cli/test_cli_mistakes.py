"""A user's mistake is answered with what is wrong, exit code 2, nothing on standard output and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import CliSite, Run

FACTS: dict[str, object] = {"certname": "a", "environment": "e", "values": {}, "producer": None}

# Arguments ({conf} is a good configuration, {tmp} a directory), and what the message must say.
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["sumbit"], "invalid choice: 'sumbit'"),
    "unknown option": (["status", "--colour"], "unrecognized arguments: --colour"),
    "group without a command": (["submit"], "KIND"),
    "submit of nothing": (["submit", "facts"], "FILE"),
    "missing file": (["submit", "facts", "{tmp}/nosuch", "--config", "{conf}"], "nosuch: cannot be read: No such"),
    "directory": (["submit", "catalog", "{tmp}", "--config", "{conf}"], "cannot be read: Is a directory"),
    "broken JSON": (["submit", "report", "{tmp}/broken", "--config", "{conf}"], "broken: store report"),
    "JSON of another kind": (["submit", "facts", "{tmp}/list", "--config", "{conf}"], "must be a JSON object"),
    "wrong payload": (["submit", "catalog", "{tmp}/facts", "--config", "{conf}"], "cannot be sent: $"),
    "empty input": (["submit", "inputs", "-", "--config", "{conf}"], "standard input: replace catalog inputs"),
    "wrong certname": (["submit", "facts", "{tmp}/facts", "--certname", "b", "--config", "{conf}"], "$.certname"),
    "empty certname": (["submit", "deactivate", "", "--config", "{conf}"], "$.certname"),
    "stamp without a zone": (
        ["submit", "deactivate", "a", "--producer-timestamp", "2026-01-01T00:00:00", "--config", "{conf}"],
        "is not an ISO-8601 timestamp with a zone",
    ),
    "stamp on no calendar": (
        ["submit", "facts", "-", "--producer-timestamp", "2026-02-30T00:00:00Z", "--config", "{conf}"],
        "--producer-timestamp",
    ),
    "expire or keep": (["submit", "expiration", "a", "--config", "{conf}"], "--expire-facts --keep-facts"),
    "expire and keep": (
        ["submit", "expiration", "a", "--expire-facts", "--keep-facts", "--config", "{conf}"],
        "not allowed with",
    ),
    "AST that is no JSON": (["query", '["=", "certname"', "--config", "{conf}"], "this AST query is not JSON"),
    "AST that is no query": (["query", "[1]", "--config", "{conf}"], "begins with an operator"),
    "AST that is too deep": (["query", "[" * 5000, "--config", "{conf}"], "nested too deep"),
    "blank query": (["query", " ", "--config", "{conf}"], "the query is empty"),
    "blank query on stdin": (["query", "-", "--config", "{conf}"], "the query is empty"),
    "query in Latin-1": (["query", "nodes{certname='\udce4'}", "--config", "{conf}"], "cannot be written as JSON"),
    "limit": (["query", "nodes{}", "--limit", "0", "--config", "{conf}"], "--limit: 0 is too small"),
    "limit in words": (["query", "nodes{}", "--limit", "ten", "--config", "{conf}"], "not a whole number"),
    "offset": (["query", "nodes{}", "--offset", "-1", "--config", "{conf}"], "--offset"),
    "order": (["query", "nodes{}", "--order-by", "certname:down", "--config", "{conf}"], "comes asc or desc"),
    "lines and one document": (["query", "nodes{}", "--lines", "--json"], "not allowed with"),
    "no such entity": (["query", '["=","certname","a"]', "--path", "node"], "did you mean nodes?"),
    "entity that is no address": (["query", "--path", "nodes/a b", "nodes{}"], "percent-encode"),
    "entity elsewhere": (["query", "--path", "nodes/../../../cmd/v1", "nodes{}"], "cannot stand in an address"),
    "timeout": (["nodes", "--timeout", "-1", "--config", "{conf}"], "not a positive number of seconds"),
    "timeout that is none": (["nodes", "--timeout", "nan", "--config", "{conf}"], "not a positive number of seconds"),
    "state": (["nodes", "--state", "lost", "--config", "{conf}"], "invalid choice: 'lost'"),
    "no collecting node": (["exported", "File", "--config", "{conf}"], "--for"),
    "no type": (["exported", "not a type", "--for", "a", "--config", "{conf}"], "is not the name of a resource type"),
    "bad filter": (["exported", "File", "tag = 'x'", "--for", "a", "--config", "{conf}"], "expected == or !="),
    "filter too deep": (["exported", "File", "(" * 5000, "--for", "a", "--config", "{conf}"], "nested too deep"),
    "filter too long": (
        ["exported", "File", " and ".join(["a == 1"] * 5000), "--for", "a", "--config", "{conf}"],
        "nested too deep",
    ),
    "no configuration": (["status"], "puppetdb.conf: there is no such file"),
    "configuration is missing": (["nodes", "--config", "{tmp}/nosuch.conf"], "nosuch.conf: there is no such file"),
    "configuration is a directory": (["status", "--config", "{tmp}"], "is a directory"),
    "configuration with a mistake": (["status", "--config", "{tmp}/typo.conf"], "typo.conf:2: server_url"),
    "configuration in binary": (["status", "--config", "{tmp}/binary.conf"], "binary.conf"),
    "key that is no key": (["status", "--config", "{tmp}/key.conf"], "is not usable PEM"),
    "missing key": (["status", "--config", "{tmp}/missing-key.conf"], "nosuch.pem"),
    "sync without a configuration": (["sync", "once"], "--config"),
    "sync of a missing configuration": (
        ["sync", "once", "--config", "{tmp}/nosuch"],
        "nosuch: there is no such file",
    ),
    "config check of nothing": (["config", "check", "--config", "{tmp}/nosuch"], "nosuch: there is no such file"),
    "demo for nobody": (["demo", "--nodes", "0"], "--nodes: 0 is too small"),
}


@pytest.fixture
def arguments(site: CliSite, tmp_path: Path) -> dict[str, str]:
    """Files with mistakes in them."""
    good = site.conf.read_text()
    key = next(line for line in good.splitlines() if line.startswith("ssl_key"))
    for name, text in {
        "broken": '{"certname": "a"',
        "list": "[]",
        "facts": json.dumps(FACTS),
        "typo.conf": good.replace("server_urls", "server_url"),
        "key.conf": good.replace(key, f"ssl_key = {tmp_path}/broken"),
        "missing-key.conf": good.replace(key, f"ssl_key = {tmp_path}/nosuch.pem"),
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.conf").write_bytes(bytes(range(256)))
    return {"conf": str(site.conf), "tmp": str(tmp_path)}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_sent(
    name: str, arguments: dict[str, str], run: Run, site: CliSite
) -> None:
    """Exit 2, the reason on standard error, no result, no request to a server."""
    argv, reason = MISTAKES[name]
    filled = [arg.replace("{conf}", arguments["conf"]).replace("{tmp}", arguments["tmp"]) for arg in argv]
    ended = run(*filled)
    assert ended.code == 2
    assert reason in ended.err
    assert ended.out == ""
    assert site.primary.requests == site.replica.requests == []


def test_a_query_on_standard_input_must_be_utf_8(run: Run, site: CliSite) -> None:
    """Bytes of another encoding are not guessed at."""
    ended = run("query", "-", "--config", site.conf, stdin=b'nodes{ certname = "\xe4" }')
    assert ended.code == 2
    assert "not UTF-8" in ended.err


def test_a_missing_lab_is_said_to_be_missing(run: Run, tmp_path: Path) -> None:
    """With what makes one."""
    for command in (["status"], ["down"], ["fault", "primary", "kill"]):
        ended = run("lab", *command, "--dir", tmp_path / "nosuch")
        assert (ended.code, ended.out) == (1, "")
        assert "lab up --dir" in ended.err


def test_a_directory_that_cannot_be_made_is_one_line(run: Run) -> None:
    """What the system refuses is told in its own words, without a traceback."""
    ended = run("lab", "up", "--dir", "/proc/nosuch/lab")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("pdbclient: ")
    assert ended.err.count("\n") == 1


def test_a_node_jar_comes_with_its_node(run: Run, tmp_path: Path) -> None:
    """A file alone could be meant for any."""
    jar = tmp_path / "puppetdb.jar"
    ended = run("lab", "up", "--dir", tmp_path / "lab", "--node-jar", jar)
    assert (ended.code, ended.out) == (2, "")
    assert f"'{jar}' is not NODE=FILE" in ended.err


def test_a_java_may_be_that_of_one_node_and_then_names_it(run: Run, tmp_path: Path) -> None:
    """A node's name has no slash; a directory's may have an equals sign."""
    where = ("lab", "up", "--dir", tmp_path / "lab")
    for java, said in (
        (f"{tmp_path}/a=b/java", f"--java {tmp_path}/a=b/java: no such program"),
        (f"replica={tmp_path}/java", f"--java replica={tmp_path}/java: no such program"),
    ):
        ended = run(*where, "--java", java)
        assert (ended.code, ended.out) == (1, "")
        assert said in ended.err
    assert run(*where, "--java", "replica=").code == 2


def test_options_may_stand_between_arguments(run: Run, site: CliSite, tmp_path: Path) -> None:
    """As in any other program."""
    ended = run("submit", "deactivate", "a", "--config", site.conf, "b", "--json", "c")
    assert ended.code == 0
    assert [entry["certname"] for entry in json.loads(ended.out)] == ["a", "b", "c"]
    assert run("exported", "File", "--for", "a", "--config", site.conf, "tag == 'x'").code == 0


def test_two_dashes_end_the_options(run: Run, site: CliSite) -> None:
    """A certname that begins with a dash is a certname after them."""
    ended = run("submit", "deactivate", "--config", site.conf, "--json", "--", "-a", "--json")
    assert ended.code == 0
    assert [entry["certname"] for entry in json.loads(ended.out)] == ["-a", "--json"]
