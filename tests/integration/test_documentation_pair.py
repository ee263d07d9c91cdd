"""What the documentation tells to type, on a real pair: commands of the pages, and its programs."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from pdbclient import Client
from pdbclient.cli.main import main, make_parser
from pdbclient.config import load_config
from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.documentation import ROOT, Block, blocks, pdbclient_commands

from .test_sync import PRIMARY, REPLICA, ReconciledPair, sync_running
from .test_sync_operators import until

pytestmark = pytest.mark.integration

PUPPETDB_CONF = "/etc/puppetlabs/puppet/puppetdb.conf"
NODE = "web1.example.com"


class Desk:
    """The pair, with what the pages take for granted: facts in a file, a journal, a pass of the reconciler."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.site = ReconciledPair(lab, directory)
        self.conf = directory / "puppetdb.conf"
        self.conf.write_text(f"{lab.puppetdb_conf.read_text()}journal = {directory}/journal.db\n")
        facts = self.site.samples.facts(NODE, 1, datetime.now(UTC))
        (directory / "facts.json").write_text(json.dumps(facts))
        first, second = (lab.node(side).url for side in (PRIMARY, REPLICA))
        self._instead = {
            "https://primary-puppetdb.mycorp.net:8081": first,
            "https://replica-puppetdb.mycorp.net:8081": second,
            "https://primary:8081": first,
            "sync.conf": str(self.site.conf[PRIMARY]),
            "/etc/pdbclient/sync.conf": str(self.site.conf[PRIMARY]),
        }

    def run(self, argv: list[str], code: int = 0) -> None:
        """One command, as it is shown, but for the names that are another here; it has to end with this exit code."""
        words = [self._instead.get(word, word) for word in argv]
        if "--config" not in words and "--config" in _parser_of(words)._option_string_actions:
            words += ["--config", str(self.conf)]
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        out, err = StringIO(), StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                ended = main(words)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        assert ended == code, (shlex.join(argv), ended, out.getvalue(), err.getvalue())


def _parser_of(words: list[str]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = make_parser()
    for word in words:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            break
        parser = groups[0].choices[word]
    return parser


@pytest.fixture
def desk(pair: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    made = Desk(pair, tmp_path)
    made.site.run(PRIMARY, NODE, 1, made.site.ago(minutes=20))
    # With the journal, so that there is one.
    with Client(load_config(made.conf)) as client:
        client.submit_payload("replace facts", made.site.samples.facts("web2.example.com", 2, datetime.now(UTC)))
    made.site.settle()
    assert made.site.pull(REPLICA).ok
    assert made.site.pull(PRIMARY).ok
    yield made
    for session in made.site.session.values():
        session.close()


def shown(run: str) -> list[Block]:
    found = blocks("sh", run)
    assert found
    return found


def test_the_commands_of_the_pages_succeed(desk: Desk) -> None:
    for block in shown("pair"):
        for argv in pdbclient_commands(block):
            desk.run(argv)


def test_a_server_that_lost_its_data_is_recovered_as_its_page_says(desk: Desk) -> None:
    desk.site.lab.empty(PRIMARY)
    for block in shown("recover"):
        for argv in pdbclient_commands(block):
            desk.run(argv, code=1 if "--dry-run" in argv else 0)
    assert desk.site.lab.sql(PRIMARY, "select certname from certnames") == [("web2.example.com",)]


def test_a_reconciler_is_looked_after_as_its_page_says(desk: Desk) -> None:
    (block,) = shown("sync")
    of_a_daemon = {"trigger"}
    for argv in pdbclient_commands(block):
        if argv[1] not in of_a_daemon:
            desk.run(argv)
    conf, port = desk.site.conf[PRIMARY], free_port()
    conf.write_text(conf.read_text().replace("state_dir", f"status_port: {port}, state_dir"))
    with sync_running(desk.site, PRIMARY):
        until(lambda: _answers(port))
        desk.run(["sync", "trigger", "--config", "sync.conf"])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("block", blocks("python", "pair"), ids=str)
def test_a_program_of_the_pages_runs(block: Block, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    program = block.text.replace(PUPPETDB_CONF, str(desk.site.lab.puppetdb_conf))
    exec(compile(program, str(block), "exec"), {"__name__": "documentation"})
    said = capsys.readouterr()
    assert said.out
    assert said.err == ""


@pytest.mark.parametrize("block", blocks("puppet"), ids=str)
def test_a_manifest_of_the_pages_compiles_with_the_module(block: Block, tmp_path: Path) -> None:
    manifest = tmp_path / "site.pp"
    # The service that the page says to be in the catalog.
    manifest.write_text(f"service {{ 'puppetserver': }}\n{block.text}")
    options = {
        "confdir": tmp_path / "conf",
        "vardir": tmp_path / "var",
        "modulepath": ROOT / "puppet_conf_examples/modules",
        "manifest": manifest,
        "node_terminus": "plain",
        "catalog_terminus": "compiler",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        ["puppet", "catalog", "compile", "host.example.com", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Pdbclient::" in done.stdout
