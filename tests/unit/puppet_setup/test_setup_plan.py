"""From a configuration directory to the changes it needs, or to all that is wrong with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import Endpoint
from pdbclient.puppet_setup import Wanted, plan_setup

from .conftest import Confdir

Refused = Callable[[Callable[[], object]], list[str]]
SERVERS = (Endpoint("a", 8081), Endpoint("b", 8081))
EXAMPLES = Path(__file__).parents[3] / "puppet_conf_examples"


def after(confdir: Path, name: str, wanted: Wanted) -> str:
    """The planned text of one file."""
    return next(change.after for change in plan_setup(confdir, wanted).changes if change.file.name == name)


@pytest.mark.parametrize(
    ("puppet_conf", "wanted", "gateway"),
    [
        ("", Wanted(server_urls=SERVERS), "https://host.example.com:8085"),
        ("[main]\ncertname = Puppet.Example\n", Wanted(server_urls=SERVERS), "https://puppet.example:8085"),
        ("[agent]\ncertname = agent.example\n", Wanted(server_urls=SERVERS), "https://agent.example:8085"),
        ("[main]\ncertname = m\n[server]\ncertname = s\n", Wanted(server_urls=SERVERS), "https://s:8085"),
        ("[main]\ncertname = m\n[server]\ncertname = s\n", Wanted("apply", server_urls=SERVERS), "https://m:8085"),
        ("", Wanted(server_urls=SERVERS, gateway_url=Endpoint("x", 9)), "https://x:9"),
    ],
)
def test_the_gateway_is_at_the_certname_unless_it_is_named(
    confdir: Confdir, puppet_conf: str, wanted: Wanted, gateway: str
) -> None:
    """Its certificate carries that name."""
    text = after(confdir({"puppet.conf": puppet_conf}), "puppetdb.conf", wanted)
    assert text.startswith(f"[main]\nserver_urls = {gateway},https://a:8081,https://b:8081\n")
    assert f"gateway_url = {gateway}\n" in text


def test_server_urls_replace_those_that_are_there(confdir: Confdir) -> None:
    """And the gateway of the file stays."""
    text = "[main]\nserver_urls = https://g:8085,https://old:8081\n[pdbclient]\ngateway_url = https://g:8085\n"
    directory = confdir({"puppet.conf": "", "puppetdb.conf": text})
    assert after(directory, "puppetdb.conf", Wanted(server_urls=SERVERS)) == text.replace(
        "https://old:8081", "https://a:8081,https://b:8081"
    )


def test_what_a_module_that_manages_puppetdb_wrote_stays_but_for_server_urls(confdir: Confdir) -> None:
    """puppetlabs-puppetdb writes these settings too: neither changes what the other one wrote."""
    files = {
        "puppet.conf": "[server]\nstoreconfigs = true\nstoreconfigs_backend = puppetdb\nreports = puppetdb\n",
        "routes.yaml": "---\nmaster:\n  facts:\n    terminus: puppetdb\n    cache: yaml\n",
        "puppetdb.conf": "[main]\nserver_urls = https://a:8081\nsoft_write_failure = false\n",
    }
    (change,) = plan_setup(confdir(files), Wanted(server_urls=SERVERS)).changes
    assert change.file.name == "puppetdb.conf"
    assert [setting.name for setting in change.settings] == ["server_urls", "gateway_url"]


def test_the_routes_are_where_puppet_conf_says(confdir: Confdir) -> None:
    """`$confdir` is this directory."""
    directory = confdir({"puppet.conf": "[main]\nroute_file = ${confdir}/r.yaml\n"})
    plan = plan_setup(directory, Wanted(server_urls=SERVERS))
    assert [change.file.name for change in plan.changes] == ["puppet.conf", "r.yaml", "puppetdb.conf"]
    assert plan.changes[1].file == directory / "r.yaml"


@pytest.mark.parametrize(
    ("example", "wanted"),
    [
        ("server-gateway", Wanted()),
        ("server-direct", Wanted(gateway=False)),
        ("apply-gateway", Wanted("apply")),
    ],
)
def test_the_examples_are_set_up_already(example: str, wanted: Wanted) -> None:
    """What one copies and what one is given agree."""
    plan = plan_setup(EXAMPLES / example, wanted)
    assert (list(plan.changes), list(plan.warnings)) == ([], [])


def test_the_diff_is_one_that_patch_takes(confdir: Confdir, tmp_path: Path) -> None:
    """Also for files without a line end, with CR LF, and new ones."""
    directory = confdir(
        {
            "puppet.conf": "[server]\r\nstoreconfigs = false\r\nreports = log",
            "routes.yaml": "server:\n  node:\n    cache: yaml",
        }
    )
    plan = plan_setup(directory, Wanted(server_urls=SERVERS))
    diff = "".join(change.diff() for change in plan.changes).encode()
    command = ["patch", "--binary", "-p0", "-d", "/"]
    subprocess.run(command, input=diff, check=True, capture_output=True, timeout=60)
    for change in plan.changes:
        assert change.file.read_bytes() == change.after.encode()


def test_the_diff_shows_no_password_of_the_journal(confdir: Confdir) -> None:
    """It is in what surrounds a change; what is written keeps it."""
    conf = "[main]\nserver_urls = https://a\n[pdbclient]\njournal = postgresql://pdb:geheim@db/journal\n"
    plan = plan_setup(confdir({"puppet.conf": "[main]\n", "puppetdb.conf": conf}), Wanted())
    change = next(change for change in plan.changes if change.file.name == "puppetdb.conf")
    assert "journal = postgresql://pdb:***@db/journal" in change.diff()
    assert "geheim" not in change.diff()
    assert "postgresql://pdb:geheim@db/journal" in change.after


@pytest.mark.parametrize(
    ("files", "wanted", "expected"),
    [
        ({"puppet.conf": ""}, Wanted(), ["puppetdb.conf: server_urls: is not set yet: name the PuppetDBs in order"]),
        ({"puppet.conf": "", "puppetdb.conf": "# none\n"}, Wanted(), ["puppetdb.conf: server_urls: is not set yet"]),
        ({"puppet.conf": "[x]\n;\n"}, Wanted(), ["puppet.conf:1: Puppet knows no", "puppet.conf:2: Puppet cannot"]),
        (
            {"puppet.conf": "", "puppetdb.conf": "[main]\nserver_urls = http://a\nserver = b\n"},
            Wanted(server_urls=SERVERS),
            ["puppetdb.conf:2: server_urls: must be https", "puppetdb.conf:3: server: retired"],
        ),
        ({"puppet.conf": "", "puppetdb.conf": "main {}\n"}, Wanted(), ["puppetdb.conf: is HOCON"]),
        (
            {"puppet.conf": "", "routes.yaml": "- a\n"},
            Wanted(server_urls=SERVERS),
            ["routes.yaml: must be a mapping"],
        ),
        (
            {"puppet.conf": "[main]\ncertname = $hostname.x\n"},
            Wanted(server_urls=SERVERS),
            ["puppet.conf: certname: '$hostname.x' is not a host name to reach the gateway by"],
        ),
        (
            {"puppet.conf": "[main]\nroute_file = $vardir/r.yaml\n"},
            Wanted(server_urls=SERVERS),
            ["puppet.conf: route_file: '$vardir/r.yaml': only $confdir is resolved here"],
        ),
        (
            {"puppet.conf": ""},
            Wanted(server_urls=(Endpoint("g", 1),), gateway_url=Endpoint("g", 1)),
            ["puppetdb.conf:5: gateway_url: https://g:1 is the only one of server_urls"],
        ),
        (
            {
                "puppet.conf": "",
                "puppetdb.conf": "[main]\nserver_urls = https://a,https://b\ncommand_broadcast = true\n"
                "min_successful_submissions = 2\n",
            },
            Wanted(server_urls=(Endpoint("a", 8081),)),
            ["puppetdb.conf:4: min_successful_submissions: (2) must be less than"],
        ),
    ],
)
def test_problems_are_all_named_with_their_lines(
    confdir: Confdir, refused: Refused, files: dict[str, str], wanted: Wanted, expected: list[str]
) -> None:
    """Of the files as they are, else of the planned ones; nothing is changed then."""
    directory = confdir(files)
    problems = refused(lambda: plan_setup(directory, wanted))
    assert [
        problem.startswith(f"{directory}/{start}") for problem, start in zip(problems, expected, strict=True)
    ] == [True for _ in expected], problems
    assert {path.name: path.read_text() for path in directory.iterdir()} == files


def test_a_directory_that_is_not_puppets_is_named(tmp_path: Path, refused: Refused) -> None:
    """One line each: no such directory, no puppet.conf in it."""
    assert refused(lambda: plan_setup(tmp_path / "no", Wanted())) == [f"{tmp_path}/no: there is no such directory"]
    (problem,) = refused(lambda: plan_setup(tmp_path, Wanted()))
    assert problem.startswith(f"{tmp_path}/puppet.conf: there is no such file")


def test_what_is_allowed_and_hardly_meant_is_a_warning(confdir: Confdir) -> None:
    """As `config check` has it, and what takes from the gateway its use."""
    text = "[main]\nserver_urls = https://a\ncommand_broadcast = true\nignore_blacklisted_events = true\n"
    directory = confdir({"puppet.conf": "", "puppetdb.conf": text})
    warnings = [str(warning) for warning in plan_setup(directory, Wanted()).warnings]
    assert [warning.partition(": ")[0] for warning in warnings] == [f"{directory}/puppetdb.conf:{n}" for n in (4, 3)]


def test_no_temporary_file_stays(confdir: Confdir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Planning writes nothing that lasts."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    plan_setup(confdir({"puppet.conf": ""}), Wanted(server_urls=SERVERS))
    assert os.listdir(scratch) == []
