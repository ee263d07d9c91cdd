"""Real Puppet runs through a gateway with a journal: no time travel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.soak import rounds

from .puppet.apply_site import ApplySite
from .puppet.evidence import COLLECTING, exporting, seed
from .puppet.gateway import Gateway
from .puppet.outage import PRIMARY, REPLICA, reading_only
from .puppet.run import Run
from .puppet.story import Story, manifest, side_by_side, told

pytestmark = pytest.mark.integration

# Agents have their primary killed in every run (test_puppet_server).
FAULTS = ["freeze", "kill"][: rounds(1, 2)]

NODE1, NODE2 = "node1.mycorp.net", "node2.mycorp.net"
# Longer than an idle machine needs: what is tested is what the runs see, not how fast.
LIMITS = {"server_url_timeout": "120", "connect_timeout": "1s", "read_timeout": "10s", "operation_timeout": "100s"}
BUDGET = "45s"


class JournalApplySite:
    """Two hosts that run `puppet apply`, and one gateway for both: it knows what either of them submits."""

    def __init__(self, root: Path, lab: Lab) -> None:
        self.hosts = {name: ApplySite(root / name.partition(".")[0], lab, name) for name in (NODE1, NODE2)}
        self.port = free_port()
        self.gateway = Gateway(self.hosts[NODE1].puppetdb_conf, root / "gateway.log")

    def configure(self, journal: Path | None, **added: str) -> None:
        allowed: dict[str, object] = {"gateway_allow": f"{NODE1},{NODE2}"}
        with_journal = {"journal": journal, "stale_exported_budget": BUDGET}
        for host in self.hosts.values():
            settings = {**allowed, **(with_journal if journal else {}), **added}
            host.configure(self.port, settings, **LIMITS)

    @contextmanager
    def running(self, journal: Path | None, **added: str) -> Iterator[Gateway]:
        self.configure(journal, **added)
        with self.gateway as gateway:
            yield gateway

    def restart(self) -> None:
        self.gateway.stop()
        self.gateway.start()

    def apply(self, name: str, text: str) -> Run:
        return self.hosts[name].apply(text)


@pytest.fixture(scope="module")
def site_of_module(lab: Lab, lab_directory: Path) -> JournalApplySite:
    return JournalApplySite(lab_directory / "journal-apply", lab)


@pytest.fixture
def site(site_of_module: JournalApplySite, pair: Lab) -> JournalApplySite:
    """No gateway runs yet; the pair is well and empty."""
    return site_of_module


def story_of(site: JournalApplySite, lab: Lab, directory: Path, journal: Path | None, fault: str) -> Story:
    directory.mkdir()
    files = {NODE1: directory / "from-node1", NODE2: directory / "from-node2"}

    def run(name: str) -> None:
        done = site.apply(name, manifest(files[name], name)).require(0, 2)
        assert done.failovers == [], "what the gateway hides, the stock terminus does not even meet"

    with site.running(journal):
        return told(lab, files, run, site.restart, fault)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_two_nodes_see_each_others_exported_resources_across_a_failover_and_back_with_the_journal_only(
    fault: str, site: JournalApplySite, pair: Lab, tmp_path: Path
) -> None:
    """The same story told twice; without the journal it must go wrong, or the comparison shows nothing."""
    with_journal = story_of(site, pair, tmp_path / "with", tmp_path / "journal", fault)
    for name in (PRIMARY, REPLICA):
        pair.empty(name)
    without = story_of(site, pair, tmp_path / "without", None, fault)
    print(side_by_side(with_journal, without))
    assert with_journal == Story(first=False, during=True, after=True)
    assert without == Story(first=False, during=False, after=False)


def test_with_stale_exported_fail_a_run_fails_and_says_why_and_asks_no_other_server(
    site: JournalApplySite, pair: Lab, tmp_path: Path
) -> None:
    """The stock terminus must not go on to the next of its `server_urls`, which would give it the stale answer."""
    run, file = run_with_a_replica_that_does_not_catch_up(site, pair, tmp_path, stale_exported="fail")
    run.require(1)
    (error,) = [line for line in run.output.splitlines() if "Could not retrieve resources" in line]
    print(error)
    assert run.failovers == []
    assert "[409" in error
    assert re.search(r"1 command missing since \S+: not visible there within 2 s", error)
    assert not file.exists()


def test_by_default_a_run_is_served_the_stale_answer_and_the_log_says_so(
    site: JournalApplySite, pair: Lab, tmp_path: Path
) -> None:
    old = tmp_path / "seed"
    seed(pair, old, "seed")
    run, file = run_with_a_replica_that_does_not_catch_up(site, pair, tmp_path)
    run.require(2)
    assert run.failovers == []
    assert (old.exists(), file.exists()) == (True, False)
    told = f"localhost:{pair.node(REPLICA).https_port} answers about exported resources without 1 newer commands"
    assert told in site.gateway.log.read_text()


def run_with_a_replica_that_does_not_catch_up(
    site: JournalApplySite, pair: Lab, directory: Path, **added: str
) -> tuple[Run, Path]:
    """A exports on the primary, which fails; B collects, and the replica takes what it lacks but does not show it."""
    file = directory / "exported"
    with site.running(directory / "journal", stale_exported_budget="2s", **added):
        site.apply(NODE1, exporting(file, "node1")).require(0, 2)
        pair.settle(PRIMARY)
        file.unlink(missing_ok=True)
        pair.fault(PRIMARY, "kill")
        try:
            with reading_only(pair, REPLICA):
                return site.apply(NODE2, COLLECTING), file
        finally:
            pair.fault(PRIMARY, "start")
