"""What the scenario tables cannot say: threads, time limits, forks, and what a `Failover` keeps alive."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from pdbclient.config.model import Timeouts
from pdbclient.errors import AllEndpointsFailed, DeadlineExceeded, IncompleteResponse, NotFound, NotSent, Rejected
from pdbclient.http import failover as failover_module
from pdbclient.http.breaker import State
from pdbclient.http.outcome import Kind, Operation, Outcome, Sent
from pdbclient.http.session import Session

from .fake import Rig, command


def ask(session: Session, within: float) -> int:
    return len(list(session.select("", within=within).elements))


def test_fifty_threads_share_what_one_of_them_learns() -> None:
    """All are in flight when the primary goes: each fails over once, the circuit opens once, nobody asks again."""
    rig = Rig()
    together = threading.Barrier(50, timeout=20)

    def refused_together() -> object:
        together.wait()
        return "refused"

    rig.session["a"].replies.extend([refused_together] * 50)
    with ThreadPoolExecutor(50) as pool:
        first = list(pool.map(lambda n: rig.failover.submit(command(f"node{n}")), range(50)))
        rig.clock.now += 1
        second = list(pool.map(lambda n: rig.failover.submit(command(f"node{n}", second=1)), range(50)))
    b = rig.endpoint["b"]
    assert all(dict(done.uuids) == {b: "uuid-b"} for done in first + second)
    assert all([a.outcome.kind for a in done.attempts] == [Kind.NOT_SENT, Kind.ACCEPTED] for done in first)
    assert all([a.outcome.kind for a in done.attempts] == [Kind.SKIPPED, Kind.ACCEPTED] for done in second)
    health = rig.registry.health()[rig.endpoint["a"], Operation.COMMAND]
    assert health.state is State.OPEN
    assert rig.asked.count("a") == 50
    assert sorted(c.certname for c in rig.session["b"].commands) == sorted([f"node{n}" for n in range(50)] * 2)
    assert rig.registry.freshness(rig.endpoint["a"]).missing == 50
    rig.failover.close()


def test_fifty_threads_mixed_lose_nothing_and_mix_nothing_up() -> None:
    rig = Rig("abc")
    for host, every in (("a", 3), ("b", 5)):
        rig.session[host].replies.extend("500" if n % every == 0 else "ok" for n in range(2000))

    def work(n: int) -> bool:
        if n % 2:
            done = rig.failover.submit(command(f"node{n}"))
            (endpoint,) = done.uuids
            return done.uuids[endpoint] == f"uuid-{endpoint.host}" and done.attempts[-1].endpoint == endpoint
        answered = rig.failover.read("q", ask)
        return answered.value == 1 and answered.attempts[-1].endpoint == answered.endpoint

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(work, range(1000)))
    taken = [c.certname for s in rig.session.values() for c in s.commands]
    assert set(taken) == {f"node{n}" for n in range(1, 1000, 2)}
    rig.failover.close()


def test_queries_that_lose_the_last_server_together_all_go_to_one_that_is_well_again() -> None:
    """The first one tried it, once a second at most, and the others failed beside it."""
    rig = Rig()
    a, b = (rig.endpoint[host] for host in "ab")
    for operation in (Operation.COMMAND, Operation.QUERY):
        rig.registry.note(a, operation, Outcome(Kind.NOT_SENT, Sent.NO), rig.clock.now)
    assert rig.registry.may_force(a, Operation.COMMAND), "nor does a command of this second cost them their turn"
    together = threading.Barrier(20, timeout=20)

    def refused_together() -> object:
        together.wait()
        return "refused"

    rig.session["b"].replies.extend([refused_together] * 20)
    with ThreadPoolExecutor(20) as pool:
        answered = list(pool.map(lambda n: rig.failover.read("q", ask), range(20)))
    assert {each.endpoint for each in answered} == {a}
    assert not rig.registry.usable(b, Operation.QUERY)
    rig.failover.close()


def test_a_broadcast_asks_all_servers_at_the_same_time() -> None:
    rig = Rig("abc", "s", command_broadcast=True)
    together = threading.Barrier(4, timeout=5)

    def wait_for_the_others() -> object:
        together.wait()
        return "ok"

    for session in rig.session.values():
        session.replies.append(wait_for_the_others)
    done = rig.failover.submit(command())
    assert [endpoint.host for endpoint in done.uuids] == ["a", "b", "c", "s"]
    rig.failover.close()


def test_a_status_round_asks_all_servers_at_the_same_time_and_hands_out_errors() -> None:
    rig = Rig("abc")
    together = threading.Barrier(3, timeout=5)

    def wait(reply: str) -> object:
        together.wait()
        return reply

    rig.session["a"].replies.append(lambda: wait("ok"))
    rig.session["b"].replies.append(lambda: wait("refused"))
    rig.session["c"].replies.append(lambda: wait("ok"))
    answers = rig.failover.ask_all(ask)
    assert [answers[rig.endpoint[h]] for h in "ac"] == [1, 1]
    assert isinstance(answers[rig.endpoint["b"]], NotSent)
    assert not rig.registry.usable(rig.endpoint["b"], Operation.COMMAND)
    rig.failover.close()


# -- limits


def test_an_attempt_may_take_the_attempt_limit_or_what_is_left_of_the_operation() -> None:
    rig = Rig("abc", timeouts=Timeouts(attempt=30, operation=45))

    def slowly() -> object:
        rig.clock.now += 20
        return "timeout"

    rig.session["a"].replies.append(slowly)
    rig.session["b"].replies.append(slowly)
    rig.failover.submit(command())
    assert [rig.session[h].within for h in "abc"] == [[30], [25], [5]]


def test_without_a_cap_an_attempt_may_take_the_whole_operation() -> None:
    rig = Rig(timeouts=Timeouts(attempt=0, operation=45))
    rig.failover.submit(command())
    assert rig.session["a"].within == [45]


def test_a_query_may_take_the_query_limit_but_what_the_next_server_needs() -> None:
    rig = Rig("abc", timeouts=Timeouts(attempt=30, connect=2, operation=45, query=100))

    def slowly() -> object:
        rig.clock.now += 40
        return "timeout"

    rig.session["a"].replies.append(slowly)
    rig.session["b"].replies.append(slowly)
    rig.failover.read("q", ask)
    assert [rig.session[h].within for h in "abc"] == [[95], [55], [20]]


def test_a_server_beside_which_none_is_healthy_may_take_all_of_it() -> None:
    rig = Rig(timeouts=Timeouts(query=100))
    rig.registry.note(rig.endpoint["b"], Operation.QUERY, Outcome(Kind.NOT_SENT, Sent.NO), rig.clock.now)
    rig.failover.read("q", ask)
    assert rig.session["a"].within == [100]


def test_a_callers_timeout_is_for_the_whole_query() -> None:
    rig = Rig()
    rig.session["a"].replies.append("refused")
    rig.failover.read("q", ask, timeout=8)
    assert [rig.session[h].within for h in "ab"] == [[4], [8]]


def test_who_had_no_time_left_is_named_and_not_blamed() -> None:
    rig = Rig()

    def slowly() -> object:
        rig.clock.now += 10
        return "500"

    rig.session["a"].replies.append(slowly)
    with pytest.raises(AllEndpointsFailed) as caught:
        rig.failover.read("a query", ask, timeout=10)
    _, skipped = caught.value.attempts
    assert (skipped.endpoint.host, skipped.outcome.kind) == ("b", Kind.SKIPPED)
    assert "no time left" in skipped.outcome.detail
    assert rig.registry.usable(rig.endpoint["b"], Operation.QUERY)
    assert rig.asked == ["a"]


def test_both_rounds_of_a_broadcast_share_one_deadline() -> None:
    rig = Rig(command_broadcast=True, timeouts=Timeouts(attempt=30, operation=45))
    rig.session["b"].replies.append("refused")
    rig.failover.submit(command())
    rig.clock.now += 1

    def slowly() -> object:
        rig.clock.now += 40
        return "500"

    rig.session["a"].replies.append(slowly)
    rig.failover.submit(command())
    assert rig.session["b"].within[-1] == 5
    rig.failover.close()


# -- errors


def test_an_exhausted_list_is_told_server_by_server() -> None:
    rig = Rig()
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append("503 retry-after 9")
    with pytest.raises(AllEndpointsFailed) as caught:
        rig.failover.submit(command("web1"))
    assert str(caught.value).splitlines() == [
        "'replace facts' for 'web1': no PuppetDB could do it:",
        "  https://a:8081: not sent: no connection: Connection refused (0.00 s)",
        "  https://b:8081: busy HTTP 503: as PuppetDB says (0.00 s)",
    ]
    assert caught.value.attempts[1].outcome.retry_after == 9


def test_a_broadcast_that_was_not_enough_says_how_many() -> None:
    rig = Rig(command_broadcast=True, min_successful_submissions=2)
    rig.session["b"].replies.append("500")
    with pytest.raises(AllEndpointsFailed, match="1 of the 2 servers it needs took it"):
        rig.failover.submit(command())
    rig.failover.close()


def test_an_error_that_is_no_servers_fault_passes_through_at_once() -> None:
    rig = Rig()

    def wrong(session: Session, within: float) -> None:
        raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="the caller's own"):
        rig.failover.read("q", wrong)
    assert rig.registry.usable(rig.endpoint["a"], Operation.QUERY)


def test_every_server_gets_the_same_bytes_and_the_same_stamp() -> None:
    rig = Rig("abc")
    rig.session["a"].replies.append("reset")
    rig.session["b"].replies.append("timeout")
    sent = command(body=b'{"exact": 1.0}')
    rig.failover.submit(sent)
    assert [rig.session[h].commands for h in "abc"] == [[sent], [sent], [sent]]


def test_a_rejection_carries_the_failures_before_it() -> None:
    rig = Rig()
    rig.session["a"].replies.append("timeout")
    rig.session["b"].replies.append("400")
    with pytest.raises(Rejected) as caught:
        rig.failover.submit(command())
    assert [a.outcome.kind for a in caught.value.attempts] == [Kind.TIMEOUT, Kind.REJECTED]


def test_a_server_whose_answers_always_break_off_half_way_is_passed_over() -> None:
    rig = Rig()
    for _ in range(3):
        answered = rig.failover.read("q", ask, streamed=True)
        assert answered.endpoint.host == "a"
        rig.clock.now += 1
        rig.failover.broke(answered, IncompleteResponse("https://a:8081", "broke off"))
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)
    assert rig.registry.usable(rig.endpoint["a"], Operation.COMMAND)
    assert rig.failover.read("q", ask, streamed=True).endpoint.host == "b"


def test_a_streamed_answer_is_a_success_at_its_end() -> None:
    rig = Rig()
    answered = rig.failover.read("q", ask, streamed=True)
    rig.failover.broke(answered, IncompleteResponse("https://a:8081", "broke off"))
    soft = rig.registry.health()[rig.endpoint["a"], Operation.QUERY].soft
    answered = rig.failover.read("q", ask, streamed=True)
    assert rig.registry.health()[rig.endpoint["a"], Operation.QUERY].soft == soft != ()
    rig.failover.completed(answered)
    assert rig.registry.health()[rig.endpoint["a"], Operation.QUERY].soft == ()


def test_streamed_answers_that_break_off_everywhere_do_not_shut_out_the_last_server() -> None:
    rig = Rig()
    for _ in range(9):
        answered = rig.failover.read("q", ask, streamed=True)
        rig.clock.now += 1
        rig.failover.broke(answered, IncompleteResponse(answered.endpoint.url, "broke off"))
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)
    assert rig.registry.usable(rig.endpoint["b"], Operation.QUERY)


def test_a_streamed_answer_that_takes_too_long_or_stands_still_shuts_out_no_last_server() -> None:
    rig = Rig()
    answered_by = []
    for _ in range(7):
        answered = rig.failover.read("q", ask, streamed=True)
        answered_by.append(answered.endpoint.host)
        rig.clock.now += 0.1
        rig.failover.broke(answered, DeadlineExceeded(answered.endpoint.url, "took longer than allowed"))
    assert answered_by == ["a", "a", "a", "b", "b", "b", "b"]
    assert rig.registry.usable(rig.endpoint["b"], Operation.QUERY)


def test_who_stands_still_is_slower_than_who_has_begun_to_answer() -> None:
    """The rest of that answer may never be read: a hanging server cost each query its time, for ever."""
    rig = Rig()
    for _ in range(3):
        rig.session["a"].replies.append("timeout")
        assert rig.failover.read("q", ask, streamed=True).endpoint.host == "b"
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)


def test_what_another_server_says_is_not_there_is_an_answer_too() -> None:
    rig = Rig()
    for _ in range(3):
        rig.session["a"].replies.append("truncated")
        rig.session["b"].replies.append(NotFound("https://b:8081", 404, "No information is known about node q"))
        with pytest.raises(NotFound):
            rig.failover.read("q", ask)
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)


@pytest.mark.parametrize("hosts", ["a", "ab"])
def test_servers_that_fail_all_commands_for_long_are_to_blame_and_that_is_an_outage(
    hosts: str, caplog: pytest.LogCaptureFixture
) -> None:
    """403 for everybody, say: it passed for a fault of each of the requests, and was no alarm."""
    rig = Rig(hosts)
    in_outage = []
    for number in range(40):
        for host in hosts:
            rig.session[host].replies.append("500")
        with pytest.raises(AllEndpointsFailed) as caught:
            rig.failover.submit(command(f"n{number}"))
        in_outage.append(caught.value.in_outage)
        rig.clock.now += 1
    assert not any(in_outage[:30])
    assert in_outage[-1]
    assert caplog.text.count("no PuppetDB can be used for commands") == 1


def test_servers_that_do_others_are_not_to_blame_however_long_one_is_asked() -> None:
    rig = Rig()
    for number in range(40):
        for host in "ab":
            rig.session[host].replies.append("500")
        with pytest.raises(AllEndpointsFailed):
            rig.failover.submit(command("bad"))
        rig.failover.submit(command(f"n{number}"))
        rig.clock.now += 5
    assert all(rig.registry.usable(rig.endpoint[host], Operation.COMMAND) for host in "ab")


def test_a_streamed_answer_decides_a_doubt_at_its_end_only() -> None:
    """It may break off at the second server, too: then the query is at fault."""
    rig = Rig()
    for _ in range(2):
        rig.session["a"].replies.append("truncated")
        answered = rig.failover.read("q", ask, streamed=True)
        assert answered.endpoint.host == "b"
        rig.failover.broke(answered, DeadlineExceeded("https://b:8081", "took longer than allowed"))
    for _ in range(2):
        rig.session["a"].replies.append("truncated")
        rig.failover.completed(rig.failover.read("q", ask, streamed=True))
    assert rig.registry.usable(rig.endpoint["a"], Operation.QUERY)
    rig.session["a"].replies.append("truncated")
    rig.failover.completed(rig.failover.read("q", ask, streamed=True))
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)


# -- the prober is woken


def test_the_prober_is_woken_when_a_circuit_opens_or_a_server_was_written_past() -> None:
    rig = Rig()
    rig.failover.submit(command())
    assert rig.prober.woken == 0
    rig.session["a"].replies.append("500")
    rig.failover.submit(command())
    assert rig.prober.woken == 1, "the primary lacks a command now"
    rig.session["a"].replies.append("refused")
    rig.failover.submit(command(second=1))
    assert rig.prober.woken >= 2


# -- life and death


def test_close_closes_every_session() -> None:
    rig = Rig("ab", "s")
    rig.failover.close()
    assert all(session.closed for session in rig.session.values())


def test_the_fork_hook_keeps_no_client_alive() -> None:
    rig = Rig()
    reference = weakref.ref(rig.failover)
    rig.failover.close()
    del rig
    gc.collect()
    assert reference() is None


def test_a_forked_child_has_its_own_lock_and_prober() -> None:
    rig = Rig()
    rig.session["a"].replies.append("refused")
    before = rig.prober
    # As if another thread were inside the registry at the moment of the fork.
    with rig.registry._lock:
        pid = os.fork()
        if pid == 0:
            done = rig.failover.submit(command())
            own = rig.prober is not before and rig.prober.woken > 0 and before.woken == 0
            os._exit(0 if own and list(done.uuids) == [rig.endpoint["b"]] else 1)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert rig.registry.usable(rig.endpoint["a"], Operation.COMMAND), "what the child met, the child knows"


def test_a_forked_child_probes_what_was_out_before_the_fork() -> None:
    rig = Rig()
    rig.session["a"].replies.append("refused")
    rig.failover.submit(command())
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(rig.probers) == 2 and rig.prober.woken == 1 else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_can_broadcast() -> None:
    rig = Rig(command_broadcast=True)
    rig.failover.submit(command())
    pid = os.fork()
    if pid == 0:
        done = rig.failover.submit(command())
        os._exit(0 if len(done.uuids) == 2 else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    rig.failover.close()


def test_no_client_leaves_anything_for_a_fork_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[object] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook))
    gc.collect()
    before = len(failover_module._LIVING)
    rigs = [Rig() for _ in range(100)]
    assert len(failover_module._LIVING) == before + 100
    for rig in rigs:
        rig.failover.close()
    rigs.clear()
    del rig
    gc.collect()
    assert len(failover_module._LIVING) <= before
    assert hooks == [], "one hook of the module does for all, and no process can take one back"
