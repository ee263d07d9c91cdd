"""`pdbclient terminus setup`: shown, written, undone, and every mistake in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pdbclient.lab.certificates import CertificateAuthority

from .conftest import Run

URLS = ("--server-urls", "https://a:8081,https://b:8081", "--gateway-url", "https://g:8085")
Child = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def ssldir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Puppet's, of a host whose gateway is called g."""
    directory = tmp_path_factory.mktemp("terminus") / "ssl"
    authority = CertificateAuthority(directory, "Test CA")
    authority.create()
    authority.issue("host.example", names=["g"])
    return directory


@pytest.fixture
def confdir(tmp_path: Path, ssldir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("socket.getfqdn", lambda: "host.example")
    directory = tmp_path / "puppet"
    directory.mkdir()
    (directory / "puppet.conf").write_text("[server]\nreports = log\n")
    (directory / "ssl").symlink_to(ssldir)
    return directory


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_changes_are_shown_and_nothing_is_changed(run: Run, confdir: Path) -> None:
    """The diff is the result; that changes are pending is exit code 1, as of diff."""
    before = snapshot(confdir)
    ended = run("terminus", "setup", "--confdir", confdir, *URLS)
    assert ended.code == 1
    assert ended.err == "nothing was changed; --write makes these changes\n"
    assert ended.out == (
        f"--- {confdir}/puppet.conf\n+++ {confdir}/puppet.conf\n@@ -1,2 +1,4 @@\n [server]\n-reports = log\n"
        "+reports = log,puppetdb\n+storeconfigs = true\n+storeconfigs_backend = puppetdb\n"
        f"--- /dev/null\n+++ {confdir}/routes.yaml\n@@ -0,0 +1,4 @@\n"
        "+master:\n+  facts:\n+    terminus: puppetdb\n+    cache: yaml\n"
        f"--- /dev/null\n+++ {confdir}/puppetdb.conf\n@@ -0,0 +1,5 @@\n+[main]\n"
        "+server_urls = https://g:8085,https://a:8081,https://b:8081\n+\n+[pdbclient]\n+gateway_url = https://g:8085\n"
    )
    assert snapshot(confdir) == before


def test_further_settings_are_written_judged_and_taken_out(run: Run, confdir: Path) -> None:
    """As `config check` would judge them; one that is not taken is named with its line, and nothing is changed."""
    written = (*URLS, "--write", "--confdir", confdir)
    assert run("terminus", "setup", *written, "--set", "pdbclient.journal = /j.db").code == 2
    assert run("terminus", "setup", *written, "--set", "pdbclient.journal=/j.db").code == 0
    conf = confdir / "puppetdb.conf"
    assert conf.read_text().endswith("[pdbclient]\ngateway_url = https://g:8085\njournal = /j.db\n")
    before = snapshot(confdir)
    refused = run("terminus", "setup", *written, "--set", "pdbclient.journal_rate=fast")
    assert refused.code == 2
    assert f"{conf}:7: journal_rate: " in refused.err
    assert snapshot(confdir) == before
    assert run("terminus", "setup", *written, "--unset", "pdbclient.journal").code == 0
    assert conf.read_text().endswith("[pdbclient]\ngateway_url = https://g:8085\n")


def test_each_of_two_set_ups_is_taken_back_out_of_an_edited_file(run: Run, confdir: Path) -> None:
    """As the Puppet module does: one for what Puppet reads, one for the gateway's settings, the latest first."""
    before = snapshot(confdir)
    conf = confdir / "puppetdb.conf"
    assert run("terminus", "setup", *URLS, "--write", "--confdir", confdir).code == 0
    assert run("terminus", "setup", "--write", "--confdir", confdir, "--set", "pdbclient.journal=/j.db").code == 0
    conf.write_text(f"{conf.read_text()}journal_rate = 7\n")
    assert run("terminus", "setup", "--undo", "--confdir", confdir).code == 0
    assert conf.read_text().endswith("[pdbclient]\ngateway_url = https://g:8085\njournal_rate = 7\n")
    assert run("terminus", "setup", "--undo", "--confdir", confdir).code == 0
    assert conf.read_text() == "[pdbclient]\njournal_rate = 7\n"
    conf.unlink()
    assert {name: data for name, data in snapshot(confdir).items() if "backup" not in name} == before


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--set", "journal=/j.db", "expected main.NAME or pdbclient.NAME"),
        ("--set", "pdbclient.journal", "expected SECTION.NAME=VALUE on one line"),
        ("--set", "pdbclient.journal=/j.db\n[main]", "expected SECTION.NAME=VALUE on one line"),
        ("--set", "main.server_urls=https://a", "say it with --server-urls"),
        ("--unset", "pdbclient.gateway_url", "say it with --gateway-url or --no-gateway"),
    ],
)
def test_a_further_setting_is_one_line_of_a_section(
    run: Run, confdir: Path, option: str, value: str, why: str
) -> None:
    """And what has an option of its own is not set twice."""
    ended = run("terminus", "setup", "--confdir", confdir, *URLS, option, value)
    assert ended.code == 2
    assert why in ended.err


def test_written_there_is_nothing_left_to_do_and_undone_it_is_as_before(run: Run, confdir: Path) -> None:
    """Each command says what it did to which file."""
    before = snapshot(confdir)
    written = run("terminus", "setup", "--write", "--confdir", confdir, *URLS)
    assert (written.code, written.err) == (0, "set up; restart Puppet Server; --undo restores the files\n")
    rows = [line.split("\t") for line in written.out.splitlines()]
    assert [Path(file).name for file, _ in rows] == ["puppet.conf", "routes.yaml", "puppetdb.conf"]
    assert Path(rows[0][1]).read_bytes() == before["puppet.conf"]
    assert [backup for _, backup in rows[1:]] == ["-", "-"]

    after = snapshot(confdir)
    for act in ((), ("--write",)):
        again = run("terminus", "setup", "--confdir", confdir, *act)
        assert (again.code, again.out, again.err) == (0, "", f"{confdir}: already set up\n")
    assert snapshot(confdir) == after

    undone = run("terminus", "setup", "--undo", "--confdir", confdir)
    assert undone.code == 0
    assert undone.out == (
        f"{confdir}/puppet.conf\trestored\n{confdir}/routes.yaml\tremoved\n{confdir}/puppetdb.conf\tremoved\n"
    )
    assert snapshot(confdir) == before


def test_json_has_every_file_with_its_settings_and_its_diff(run: Run, confdir: Path) -> None:
    """One document, whether shown or written."""
    shown = run("terminus", "setup", "--json", "--confdir", confdir, *URLS)
    document = json.loads(shown.out)
    assert (shown.code, document["ok"], document["written"], document["warnings"]) == (1, True, False, [])
    puppet, routes, puppetdb = document["changes"]
    assert puppet["settings"][2] == {
        "section": "server", "name": "reports", "before": "log", "after": "log,puppetdb"
    }  # fmt: skip
    assert puppet["diff"].startswith(f"--- {confdir}/puppet.conf\n")
    assert [change["exists"] for change in (puppet, routes, puppetdb)] == [True, False, False]
    assert [change["backup"] for change in (puppet, routes, puppetdb)] == [None, None, None]

    written = json.loads(run("terminus", "setup", "--json", "--write", "--confdir", confdir, *URLS).out)
    assert written["written"] is True
    assert written["changes"][0]["backup"].startswith(f"{confdir}/puppet.conf.pdbclient-backup-")
    again = json.loads(run("terminus", "setup", "--json", "--write", "--confdir", confdir, *URLS).out)
    assert again == {"ok": True, "written": False, "changes": [], "warnings": []}
    undone = json.loads(run("terminus", "setup", "--json", "--undo", "--confdir", confdir).out)
    assert [entry["action"] for entry in undone["undone"]] == ["restored", "removed", "removed"]


def test_without_a_gateway_puppet_talks_to_the_servers(run: Run, confdir: Path) -> None:
    """And a gateway that was set up goes out."""
    run("terminus", "setup", "--write", "--confdir", confdir, *URLS)
    assert run("terminus", "setup", "--write", "--no-gateway", "--confdir", confdir).code == 0
    text = (confdir / "puppetdb.conf").read_text()
    assert text == "[main]\nserver_urls = https://a:8081,https://b:8081\n\n[pdbclient]\n"


def test_a_gateway_without_a_port_is_where_gateways_are(run: Run, confdir: Path) -> None:
    """443, which a URL without a port means elsewhere, is no port that its user may open."""
    ended = run(
        "terminus", "setup", "--confdir", confdir, "--server-urls", "https://a", "--gateway-url", "https://g/"
    )
    assert "+server_urls = https://g:8085,https://a:443\n" in ended.out
    assert "+gateway_url = https://g:8085\n" in ended.out


def test_for_puppet_apply_it_is_main_and_no_server_is_restarted(run: Run, confdir: Path) -> None:
    """routes.yaml gets the routes of the application `apply`."""
    ended = run("terminus", "setup", "--for", "apply", "--write", "--confdir", confdir, *URLS)
    assert (ended.code, ended.err) == (0, "set up; --undo restores the files\n")
    assert "[main]\nstoreconfigs = true\n" in (confdir / "puppet.conf").read_text()
    assert (confdir / "routes.yaml").read_text().startswith("apply:\n  catalog:\n")


def test_the_confdir_is_found_where_puppet_has_it(run: Run, tmp_path: Path) -> None:
    """As `config check` finds it."""
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "puppet.conf").write_text("")
    assert f"+++ {tmp_path}/debian/puppet.conf\n" in run("terminus", "setup", *URLS).out


def test_problems_are_printed_one_a_line_and_nothing_is_changed(run: Run, confdir: Path) -> None:
    """With --json as one document; exit code 2 both times."""
    (confdir / "puppetdb.conf").write_text("[main]\nserver_urls = http://a\nserver = b\n")
    before = snapshot(confdir)
    ended = run("terminus", "setup", "--write", "--confdir", confdir)
    assert (ended.code, ended.out) == (2, "")
    assert [line.split(": ")[:3] for line in ended.err.splitlines()] == [
        ["pdbclient", f"{confdir}/puppetdb.conf:2", "server_urls"],
        ["pdbclient", f"{confdir}/puppetdb.conf:3", "server"],
    ]
    as_json = run("terminus", "setup", "--write", "--json", "--confdir", confdir)
    document = json.loads(as_json.out)
    assert (as_json.code, document["ok"], [problem["line"] for problem in document["problems"]]) == (2, False, [2, 3])
    assert snapshot(confdir) == before


def test_warnings_go_to_standard_error(run: Run, confdir: Path) -> None:
    """What is probably not meant does not stop it."""
    (confdir / "puppetdb.conf").write_text("[main]\nserver_urls = https://a\nsticky_read_failover = true\n")
    ended = run("terminus", "setup", "--confdir", confdir)
    assert ended.code == 1
    assert f"warning: {confdir}/puppetdb.conf:3: sticky_read_failover: in [main]" in ended.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--gateway-url", "https://other.example:8085"), "ssl_cert: no client of gateway_url accepts it"),
        (("--set", "pdbclient.journal=/nope/journal.db"), "journal: its directory /nope does not exist"),
        (("--set", "pdbclient.ssl_crl=/nope/crl.pem"), "ssl_crl: the revocation list /nope/crl.pem does not exist"),
    ],
)
def test_what_config_check_says_of_the_result_is_a_warning(
    run: Run, confdir: Path, more: tuple[str, ...], said: str
) -> None:
    """It may come later, as in a run of Puppet, so it is written all the same; before it is, nobody can tell."""
    argv = ("terminus", "setup", "--confdir", confdir, *URLS, *more)
    assert "warning" not in run(*argv).err
    for act in (("--write",), ()):
        ended = run(*argv, *act)
        assert ended.code == 0
        (warning,) = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
        assert said in warning
        assert "until `pdbclient config check` ends with 0" in ended.err
    assert run("config", "check", "--config", confdir / "puppetdb.conf").code == 2
    (warning,) = json.loads(run(*argv, "--json").out)["warnings"]
    assert said in f"{warning['setting']}: {warning['why']}"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--confdir", "/nonexistent"), 2, "/nonexistent: there is no such directory"),
        (("--confdir", "/"), 2, "/puppet.conf: there is no such file: name Puppet's configuration directory"),
        (("--confdir", "/nonexistent", "--undo"), 1, "/nonexistent: cannot be read: No such file or directory"),
        (("--confdir", "/proc", "--undo"), 1, "/proc: there is nothing to undo"),
        (("--write", "--undo"), 2, "argument --undo: not allowed with argument --write"),
        (("--no-gateway", "--gateway-url", "https://g"), 2, "not allowed with argument"),
        (("--gateway-url", "http://g"), 2, "argument --gateway-url: must be https, found 'http://g'"),
        (("--server-urls", "https://a,b"), 2, "argument --server-urls: must be https, found 'b'"),
        (("--for", "agent"), 2, "invalid choice: 'agent'"),
    ],
)
def test_a_mistake_is_told_in_one_line(run: Run, argv: tuple[str, ...], code: int, said: str) -> None:
    """And ends with the code that its kind has."""
    ended = run("terminus", "setup", *argv)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err.splitlines()[-1]


def test_undo_survives_the_journal_that_was_added_and_says_what_it_did(run: Run, confdir: Path) -> None:
    """As everybody is told to add it, to the section that the set-up has made."""
    run("terminus", "setup", "--write", "--confdir", confdir, *URLS)
    with (confdir / "puppetdb.conf").open("a") as file:
        file.write("journal = /var/lib/pdbclient/journal.db\n")
    ended = run("terminus", "setup", "--undo", "--confdir", confdir)
    assert ended.code == 0
    assert ended.out == (
        f"{confdir}/puppet.conf\trestored\n{confdir}/routes.yaml\tremoved\n{confdir}/puppetdb.conf\tedited\n"
    )
    assert ended.err.splitlines() == [
        f"{confdir}/puppetdb.conf: was changed since; taken back: main.server_urls, pdbclient.gateway_url",
        f"{confdir}/puppetdb.conf: kept, as set since: pdbclient.journal",
        "undone; restart Puppet Server, if one runs here",
    ]
    assert (confdir / "puppetdb.conf").read_text() == "[pdbclient]\njournal = /var/lib/pdbclient/journal.db\n"


def test_undo_says_which_of_its_settings_were_changed_and_are_left(run: Run, confdir: Path) -> None:
    """With exit code 1: it is not as it was before."""
    run("terminus", "setup", "--write", "--confdir", confdir, *URLS)
    text = (confdir / "puppet.conf").read_text()
    assert "storeconfigs = true" in text
    (confdir / "puppet.conf").write_text(text.replace("storeconfigs = true", "storeconfigs = false"))
    (confdir / "routes.yaml").unlink()
    ended = run("terminus", "setup", "--undo", "--confdir", confdir, "--json")
    puppet_conf, routes, puppetdb_conf = json.loads(ended.out)["undone"]
    assert ended.code == 1
    assert (puppet_conf["action"], puppet_conf["left"]) == ("edited", ["server.storeconfigs"])
    assert [each["action"] for each in (routes, puppetdb_conf)] == ["removed", "removed"]
    assert "storeconfigs = false" in (confdir / "puppet.conf").read_text()


@pytest.mark.parametrize(("mode", "code"), [(0o555, 1), (0o000, 2)])
def test_what_may_not_be_written_or_read_is_told_in_one_line(
    reachable: Path, as_nobody: str, mode: int, code: int
) -> None:
    """To a user who may read the directory and not write it, and to one who may not read it."""
    confdir = reachable
    command = [sys.executable, "-c", as_nobody, "terminus", "setup", "--write", "--confdir", str(confdir), *URLS]
    confdir.chmod(mode)
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        confdir.chmod(0o755)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith(f"pdbclient: {confdir}/puppet.conf: ")


@pytest.fixture
def reachable(confdir: Path) -> Iterator[Path]:
    """The same where any user can go: pytest closes its own directories, whenever another pytest begins, too."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(shutil.copytree(confdir, Path(name) / "puppet"))


@pytest.fixture
def as_nobody() -> str:
    """A program that runs the command line without root's rights, where it has them."""
    # Python may lie where nobody may go: its modules are imported before root's rights are given up.
    program = "import os, sys\nimport pdbclient.cli.main\npdbclient.cli.main.make_parser()\n"
    if os.geteuid() == 0:
        program += "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
    return program + "sys.exit(pdbclient.cli.main.main())"


def test_a_diff_in_a_pipe_is_the_text_itself_whatever_the_encoding(child: Child, confdir: Path) -> None:
    """What the encoding lacks is escaped, never a traceback."""
    (confdir / "puppet.conf").write_text("# réports\n[server]\nreports = log\n")
    for encoding, text in (("utf-8", b"# r\xc3\xa9ports"), ("ascii", rb"# r\xe9ports")):
        process = child("terminus", "setup", "--confdir", confdir, *URLS, env={"PYTHONIOENCODING": encoding})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert text in out
        assert b"Traceback" not in err
