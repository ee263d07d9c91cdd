"""What is told when no server can be used: a line when it begins, one when it is over, few meanwhile."""

from __future__ import annotations

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import AllEndpointsFailed
from pdbclient.http.outage import REMIND
from pdbclient.http.outcome import ACCEPTED, Kind, Operation, Outcome, Sent
from pdbclient.http.registry import ServerRegistry
from pdbclient.http.session import Session

from .fake import FakeClock, Rig, command, endpoints

A, B, S = endpoints("ab", "s")
COMMAND, QUERY = Operation.COMMAND, Operation.QUERY
REFUSED = Outcome(Kind.NOT_SENT, Sent.NO, detail="Connection refused")
NO_DATABASE = Outcome(Kind.BUSY, Sent.YES, 503, 5.0, "no database")
BOTH = f"{A}: not sent: Connection refused; {B}: not sent: Connection refused"


class OutageLog:
    """A registry, and what it tells of outages."""

    def __init__(self, caplog: pytest.LogCaptureFixture, servers: tuple[Endpoint, ...], needed: int = 1) -> None:
        self.clock = FakeClock(100.0)
        self.registry = ServerRegistry(servers, self.clock, lambda: 0.0, needed=needed)
        self._caplog = caplog

    def note(self, server: Endpoint, outcome: Outcome, operation: Operation = COMMAND) -> None:
        self.registry.note(server, operation, outcome, self.clock.now)

    def healthy_again(self, server: Endpoint) -> None:
        """As two good probes say."""
        for _ in range(2):
            self.clock.now += 40
            self.registry.probed(server, ok=True)

    def told(self) -> list[tuple[str, str]]:
        """What was told since the last look."""
        records = [r for r in self._caplog.records if r.name == "pdbclient.http.outage"]
        self._caplog.clear()
        return [(record.levelname, record.getMessage()) for record in records]


@pytest.fixture
def site(caplog: pytest.LogCaptureFixture) -> OutageLog:
    return OutageLog(caplog, (A, B))


def test_an_outage_is_an_error_and_a_line_when_it_is_over_with_how_long_and_how_many(site: OutageLog) -> None:
    site.note(A, REFUSED)
    assert site.told() == [], "the other server can be used"
    site.note(B, REFUSED)
    assert site.told() == [("ERROR", f"no PuppetDB can be used for commands and queries: {BOTH}")]
    for operation in (*[COMMAND] * 37, *[QUERY] * 12):
        assert site.registry.all_failed(operation)
        site.note(B, REFUSED, operation)
    assert site.told() == []
    site.clock.now += 10
    site.healthy_again(B)
    over = "a PuppetDB can be used again, after 90 s; 37 commands and 12 queries found none meanwhile"
    assert site.told() == [("WARNING", over)]
    site.healthy_again(A)
    assert site.told() == []


def test_the_next_outage_is_counted_anew(site: OutageLog) -> None:
    for _ in range(2):
        site.note(A, REFUSED)
        site.note(B, REFUSED)
        site.registry.all_failed(COMMAND)
        site.healthy_again(A)
        error, over = site.told()
        assert error[0] == "ERROR"
        assert over[1] == "a PuppetDB can be used again, after 80 s; 1 commands and 0 queries found none meanwhile"


def test_a_lasting_outage_is_told_rarely(site: OutageLog) -> None:
    site.note(A, REFUSED)
    site.note(B, REFUSED)
    site.told()
    for second in range(2 * int(REMIND)):
        site.clock.now = 101.0 + second
        if second % 3:
            site.registry.all_failed(COMMAND)
        else:
            site.registry.probed(A, ok=False)
    lines = site.told()
    assert [level for level, _ in lines] == ["WARNING", "WARNING"]
    still = "still no PuppetDB can be used for commands and queries, after"
    assert lines[0][1] == f"{still} 10 min; 400 commands and 0 queries found none meanwhile"
    assert lines[1][1].startswith(f"{still} 20 min; ")


def test_an_outage_that_gets_worse_is_told_again_and_is_over_when_all_is(site: OutageLog) -> None:
    for server in (A, B):
        site.note(server, NO_DATABASE, QUERY)
    met = f"{A}: busy: no database; {B}: busy: no database"
    assert site.told() == [("ERROR", f"no PuppetDB can be used for queries: {met}")]
    assert not site.registry.all_failed(COMMAND), "of commands, each is told: that is no part of it"
    for server in (A, B):
        site.note(server, REFUSED)
    assert site.told() == [("ERROR", f"no PuppetDB can be used for commands and queries: {BOTH}")]
    # As the next command is tried there all the same.
    site.clock.now += 1
    site.note(A, ACCEPTED)
    assert site.told() == [], "queries are not answered yet"
    site.healthy_again(A)
    ((level, text),) = site.told()
    assert (level, text.partition(";")[0]) == ("WARNING", "a PuppetDB can be used again, after 81 s")


def test_a_command_that_gets_through_all_the_same_ends_an_outage_of_commands(site: OutageLog) -> None:
    timeout = Outcome(Kind.TIMEOUT, Sent.UNKNOWN, detail="no answer")
    for server in (A, B):
        site.note(server, timeout)
    assert site.told()[0][1].startswith("no PuppetDB can be used for commands: ")
    site.clock.now += 3
    site.note(B, ACCEPTED)
    assert site.told()[0][1].startswith("a PuppetDB can be used again, after 3 s; ")


def test_a_submit_only_server_still_takes_commands(caplog: pytest.LogCaptureFixture) -> None:
    site = OutageLog(caplog, (A, S))
    site.note(A, REFUSED)
    assert site.told() == [("ERROR", f"no PuppetDB can be used for queries: {A}: not sent: Connection refused")]


def test_fewer_servers_than_a_command_needs_are_an_outage_too(caplog: pytest.LogCaptureFixture) -> None:
    site = OutageLog(caplog, (A, B), needed=2)
    site.note(B, REFUSED)
    few = f"fewer than 2 PuppetDBs can be used for commands: {B}: not sent: Connection refused"
    assert site.told() == [("ERROR", few)]
    site.registry.all_failed(COMMAND)
    site.healthy_again(B)
    assert site.told()[0][1] == (
        "enough PuppetDBs can be used again, after 80 s; 1 commands and 0 queries found too few meanwhile"
    )


def ask(session: Session, within: float) -> int:
    return len(list(session.select("", within=within).elements))


@pytest.mark.parametrize("broadcast", [False, True])
def test_a_command_says_whether_its_failure_is_part_of_an_outage(broadcast: bool) -> None:
    rig = Rig("ab", command_broadcast=broadcast)
    for host in "ab":
        # One soft failure shuts nobody out.
        rig.session[host].replies.extend(["500", "refused", "refused"])
    in_outage = []
    for number in range(3):
        with pytest.raises(AllEndpointsFailed) as caught:
            rig.failover.submit(command(f"n{number}"))
        in_outage.append(caught.value.in_outage)
        rig.clock.now += 1
    assert in_outage == [False, True, True]
    rig.failover.close()


def test_a_query_that_no_server_answers_in_time_is_no_outage() -> None:
    rig = Rig("ab")
    rig.session["a"].replies.append("timeout")
    rig.session["b"].replies.append("500")
    with pytest.raises(AllEndpointsFailed) as caught:
        rig.failover.read("nodes", ask)
    assert not caught.value.in_outage
    rig.failover.close()


def test_a_failover_knows_how_many_servers_a_command_needs(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("ab", command_broadcast=True, min_successful_submissions=2)
    rig.session["b"].replies.append("refused")
    with pytest.raises(AllEndpointsFailed) as caught:
        rig.failover.submit(command("n"))
    assert caught.value.in_outage
    assert "fewer than 2 PuppetDBs can be used for commands" in caplog.text
    rig.failover.close()
