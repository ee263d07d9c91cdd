"""The types that a program sees: never run, only read by mypy (strict), which fails when one of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

from pdbclient import (
    AllEndpointsFailed,
    Client,
    ClientConfig,
    Command,
    JournalBusy,
    NotFound,
    QueryResult,
    Rows,
    ServerError,
    ServerStatus,
    StaleAnswer,
    Submission,
    load_config,
    parse_collector,
)
from pdbclient.client import Found
from pdbclient.config import Endpoint
from pdbclient.http.breaker import Health
from pdbclient.http.outcome import Attempt, Operation, Outcome
from pdbclient.http.staleness import Freshness

__all__ = ["commands", "configuration", "errors", "errors_of_the_journal", "queries", "servers"]


def configuration() -> None:
    config = load_config("puppetdb.conf")
    assert_type(config, ClientConfig)
    assert_type(config.server_urls, tuple[Endpoint, ...])
    assert_type(config.server_urls[0].url, str)
    assert_type(config.journal, str | None)
    assert_type(Client(config), Client)
    assert_type(Client.from_config(), Client)


def commands(client: Client) -> None:
    command = Command.create("replace facts", {"certname": "web1"}, now=datetime.now(UTC))
    assert_type(command, Command)
    done = client.submit(command)
    assert_type(done, Submission)
    assert_type(done.endpoint, Endpoint | None)
    assert_type(done.uuid, str | None)
    assert_type(done.uuids, Mapping[Endpoint, str])
    assert_type(done.attempts, tuple[Attempt, ...])
    assert_type(done.failed_over, bool)
    assert_type(done.error, AllEndpointsFailed | None)
    assert_type(client.submit_payload("replace facts", b"{}"), Submission)


def queries(client: Client) -> None:
    result = client.query("nodes {}", limit=1, order_by=[{"field": "certname"}])
    assert_type(result, QueryResult)
    assert_type(result.rows, tuple[Any, ...])
    assert_type(result.total, int | None)
    assert_type(result.endpoint, Endpoint)
    assert_type(result.freshness, Freshness)
    assert_type(result.freshness.stale, bool)
    assert_type(result.failed_over, bool)
    assert_type(result.attempts[0].outcome, Outcome)
    assert_type(client.query(["=", "certname", "a"], path="nodes"), QueryResult)
    with client.stream("nodes {}") as rows:
        assert_type(rows, Rows)
        for row in rows:
            assert_type(row, Any)
    assert_type(client.get("nodes/a"), Found)
    assert_type(client.exported_resources("Sshkey", parse_collector("tag == 'x'"), for_certname="a"), QueryResult)


def servers() -> None:
    with Client.from_config() as client:
        assert_type(client, Client)
        assert_type(client.status(), tuple[ServerStatus, ...])
        assert_type(client.next_in_line(Operation.COMMAND), tuple[Endpoint, ...])
        assert_type(client.health(), Mapping[tuple[Endpoint, Operation], Health])


def errors(error: AllEndpointsFailed | NotFound, other: ServerError) -> None:
    assert_type(error.attempts, tuple[Attempt, ...])
    assert_type(other.status, int)
    assert_type(other.attempts, tuple[Attempt, ...])


def errors_of_the_journal(busy: JournalBusy, stale: StaleAnswer) -> None:
    assert_type(busy.pid, int | None)
    assert_type(stale.endpoint, str)
    assert_type(stale.missing, int)
    assert_type(stale.since, str | None)
