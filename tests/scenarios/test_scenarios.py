"""Runs the tables of this directory: servers, what each answers in turn, and what must come out.

A scenario has `servers`, perhaps `submit_only` and `settings`, and `steps`. A step does, in this order:

- `at`: seconds since the beginning; the clock never runs by itself;
- `holds`: `{server: [certname]}`: the server has the newest facts of these nodes from now on;
- `submit` or `query`: what each server will answer, `{server: reply}`. A reply is a word (see `fake.reply_error`),
  or `{reply: word, takes: seconds, meanwhile: [steps]}`, where the steps happen before the answer comes.
  `status: {}` asks every server how it is, `certname` names the command's node (node1);
- `probe`: one round of the background prober, `{server: reply}`;
- `restart: true`: a new process, which remembers nothing.

and expects `asked` (in order; in any with a broadcast), `from` (server, or list with a broadcast) or `raises`,
`failed_over`, `stale`, `attempts` (`server kind`), `probed` (servers), `health` (`closed`, `half-open`, or
`open until SECOND`; per server, or per operation), `reads` and `writes` (the order when all are well),
`next_read` and `next_write` (who would be asked now).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdbclient.client import Client, QueryResult, Submission
from pdbclient.errors import AllEndpointsFailed, PdbError, ServerError
from pdbclient.http.breaker import Health, State
from pdbclient.http.outcome import Operation
from pdbclient.wire.timestamp import to_utc
from tests.unit.http.fake import Reply, Rig, command

ACTIONS = {"at", "holds", "submit", "query", "status", "certname", "probe", "restart"}
RESULTS = {"asked", "from", "raises", "failed_over", "stale", "attempts"}
STATES = {"probed", "health", "reads", "writes", "next_read", "next_write"}
STEP_KEYS = ACTIONS | RESULTS | STATES


def scenarios() -> list[Any]:
    return [
        pytest.param(scenario, id=f"{path.stem}: {scenario['name']}")
        for path in sorted(Path(__file__).parent.glob("*.yaml"))
        for scenario in yaml.safe_load(path.read_text())
    ]


class PlayedScenario:
    """One scenario as it is played."""

    def __init__(self, scenario: Mapping[str, Any]) -> None:
        self.scenario = scenario
        self.start()

    def start(self) -> None:
        settings = self.scenario.get("settings", {})
        self.rig = Rig(self.scenario["servers"], self.scenario.get("submit_only", ()), **settings)
        self.client = Client(self.rig.config, failover=self.rig.failover)
        self.zero = self.rig.clock.now
        self.stamps: dict[str, str] = {}

    def play(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            assert step.keys() <= STEP_KEYS, f"unknown keys: {step.keys() - STEP_KEYS}"
            if step.get("restart"):
                self.start()
            if "at" in step:
                assert self.zero + step["at"] >= self.rig.clock.now, "the clock is monotonic"
                self.rig.clock.now = self.zero + step["at"]
            self.act(step)
            self.check(step)

    def act(self, step: dict[str, Any]) -> None:
        for host, certnames in step.get("holds", {}).items():
            held = {("replace facts", certname): self.stamps[certname] for certname in certnames}
            self.rig.session[host].held.update(held)
        if "submit" in step or "query" in step:
            self.ask(step)
        if "status" in step:
            self.client.status()
        if "probe" in step:
            self.probe(step["probe"], step["probed"])

    def ask(self, step: dict[str, Any]) -> None:
        replies = step["submit"] if "submit" in step else step["query"]
        saved = {host: session.replies for host, session in self.rig.session.items()}
        for host, session in self.rig.session.items():
            session.replies = deque([self.reply(replies[host])] if host in replies else [])
        before = len(self.rig.asked)
        result: Submission | QueryResult | PdbError
        try:
            result = self.submit(step.get("certname", "node1")) if "submit" in step else self.query()
        except PdbError as error:
            result = error
        asked = self.rig.asked[before:]
        # What happens meanwhile is not what the step around it asks.
        del self.rig.asked[before:]
        if self.rig.config.command_broadcast and "submit" in step:
            asked, expected = sorted(asked), sorted(step["asked"])
        else:
            expected = step["asked"]
        assert asked == expected, "who was asked"
        assert set(replies) == set(asked), "an answer for each who is asked"
        for host, session in self.rig.session.items():
            session.replies = saved[host]
        self.judge(step, result)

    def submit(self, certname: str) -> Submission:
        sent = command(certname, second=int(self.rig.clock.now - self.zero))
        self.stamps[certname] = to_utc(sent.producer_timestamp)
        return self.client.submit(sent)

    def query(self) -> QueryResult:
        return self.client.query("nodes[certname] {}")

    def reply(self, reply: str | dict[str, Any]) -> Reply:
        if isinstance(reply, dict):
            return lambda: self.slow(**reply)
        return str(reply)

    def slow(self, reply: str, takes: float = 0.0, meanwhile: list[dict[str, Any]] | None = None) -> object:
        self.play(meanwhile or [])
        self.rig.clock.now += takes
        return str(reply)

    def judge(self, step: dict[str, Any], result: Submission | QueryResult | PdbError) -> None:
        assert ("from" in step) != ("raises" in step), "a step says who took it, or what is raised"
        if isinstance(result, PdbError):
            assert type(result).__name__ == step.get("raises"), f"raised {result!r}"
            assert isinstance(result, AllEndpointsFailed | ServerError), result
        elif isinstance(result, Submission):
            wanted = step["from"] if isinstance(step["from"], list) else [step["from"]]
            assert [endpoint.host for endpoint in result.uuids] == wanted, "who took it"
            assert dict(result.uuids) == {self.rig.endpoint[h]: f"uuid-{h}" for h in wanted}
        else:
            assert result.endpoint.host == step["from"], "who answered"
            assert list(result) == [{"from": step["from"]}], "whose rows"
        if "attempts" in step:
            met = [f"{attempt.endpoint.host} {attempt.outcome.kind}" for attempt in result.attempts]
            assert met == step["attempts"], "what each server met"
        if "failed_over" in step:
            assert not isinstance(result, PdbError)
            assert result.failed_over is step["failed_over"], "failed over"
        if "stale" in step:
            assert isinstance(result, QueryResult)
            assert result.freshness.stale is step["stale"], "stale"

    def probe(self, replies: dict[str, str], expected: list[str]) -> None:
        for host, session in self.rig.session.items():
            session.probed.clear()
            session.status = str(replies.get(host, "ok"))
        self.rig.prober.ask()
        probed = [host for host, session in self.rig.session.items() if any("/status" in p for p in session.probed)]
        assert probed == expected, "who was probed"
        assert set(replies) == set(probed), "a probe's answer for each who is probed"

    def check(self, step: dict[str, Any]) -> None:
        for host, expected in step.get("health", {}).items():
            each = expected if isinstance(expected, dict) else {"command": expected, "query": expected}
            for operation, text in each.items():
                health = self.client.health()[self.rig.endpoint[host], Operation(operation)]
                assert self.shown(health) == text, f"health of {host} for a {operation}"
        orders = {
            "reads": self.rig.registry.order(Operation.QUERY),
            "writes": self.rig.registry.order(Operation.COMMAND),
            "next_read": self.client.next_in_line(Operation.QUERY),
            "next_write": self.client.next_in_line(Operation.COMMAND),
        }
        for key, order in orders.items():
            if key in step:
                assert [endpoint.host for endpoint in order] == step[key], key

    def shown(self, health: Health) -> str:
        if health.state is not State.OPEN:
            return str(health.state)
        return f"open until {health.retry_at - self.zero:g}"


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario(scenario: dict[str, Any]) -> None:
    """What a table says, happens."""
    assert scenario.keys() <= {"name", "servers", "submit_only", "settings", "steps"}
    story = PlayedScenario(scenario)
    try:
        story.play(scenario["steps"])
    finally:
        story.client.close()
