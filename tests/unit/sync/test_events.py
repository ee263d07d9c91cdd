"""The log `sync`: exactly the phases, events, attributes and levels of the guide."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pdbclient.observe.logs import SYNC_ATTRIBUTES
from pdbclient.sync.policy.model import Entity
from pdbclient.sync.run.events import SyncLog

REMOTE = "https://a.example.com:8081"


def shown(record: logging.LogRecord) -> dict[str, Any]:
    """The attributes that the record carries beyond those of every log record."""
    plain = logging.makeLogRecord({}).__dict__.keys() | {"message", "taskName"}
    return {name: value for name, value in record.__dict__.items() if name not in plain}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> SyncLog:
    caplog.set_level(logging.DEBUG, logger="sync")
    moments = iter(range(100))
    return SyncLog(REMOTE, monotonic=lambda: next(moments) * 0.25)


def test_a_pass_is_a_start_and_a_finished_event_with_its_remote(
    log: SyncLog, caplog: pytest.LogCaptureFixture
) -> None:
    with log.sync():
        pass
    assert [shown(record) for record in caplog.records] == [
        {"phase": "sync", "event": "start", "remote": REMOTE},
        {"phase": "sync", "event": "finished", "ok": True, "elapsed": 250, "remote": REMOTE},
    ]
    assert [(record.name, record.levelname) for record in caplog.records] == [("sync", "DEBUG"), ("sync", "INFO")]


def test_an_entity_tells_its_counts_when_finished(log: SyncLog, caplog: pytest.LogCaptureFixture) -> None:
    with log.entity(Entity.FACTS) as result:
        result.transferred, result.failed = 3, 1
    common = {"phase": "entity", "entity": "facts", "remote": REMOTE}
    assert [shown(record) for record in caplog.records] == [
        {**common, "event": "start"},
        {**common, "event": "finished", "ok": True, "elapsed": 250, "transferred": 3, "failed": 1},
    ]


def test_an_error_event_has_ok_false_the_elapsed_time_and_the_reason_and_passes_the_error_on(
    log: SyncLog, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="no reason"), log.entity(Entity.NODES):
        raise ValueError("no reason")
    error = caplog.records[-1]
    assert shown(error) == {
        "phase": "entity",
        "event": "error",
        "ok": False,
        "elapsed": 250,
        "entity": "nodes",
        "remote": REMOTE,
    }
    assert error.levelname == "ERROR"
    assert "no reason" in error.getMessage()


@pytest.mark.parametrize(("entity", "extra"), [(Entity.CATALOGS, {}), (Entity.REPORTS, {"hash": "abc"})])
def test_a_record_is_logged_at_debug_level_with_its_query_and_a_report_with_its_hash(
    log: SyncLog, caplog: pytest.LogCaptureFixture, entity: Entity, extra: dict[str, str]
) -> None:
    with log.record(entity, '["q"]', "n1", extra.get("hash")):
        pass
    common = {"phase": "record", "entity": str(entity), "remote": REMOTE, "query": '["q"]', "certname": "n1"}
    assert [shown(record) for record in caplog.records] == [
        {**common, **extra, "event": "start"},
        {**common, **extra, "event": "finished", "ok": True, "elapsed": 250},
    ]
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


def test_a_record_that_fails_is_logged_at_error_level(log: SyncLog, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="bad"), log.record(Entity.FACTS, "q", "n1"):
        raise ValueError("bad")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "ERROR"]


def test_a_pass_that_finds_nothing_to_do_is_one_line_at_info_level(
    log: SyncLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sync")
    with log.sync():
        for entity in Entity:
            with log.entity(entity):
                pass
    (line,) = caplog.records
    assert line.getMessage() == f"sync with {REMOTE}: finished in 3250 ms, 0 transferred, 0 failed"


def test_what_was_done_is_at_info_level(log: SyncLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sync")
    with log.sync():
        with log.entity(Entity.NODES) as result, log.deactivate("n1"):
            result.transferred += 1
        with log.entity(Entity.FACTS):
            pass
        with log.entity(Entity.REPORTS) as result:
            result.failed += 2
    assert [line.getMessage().partition(": finished in ")[::2] for line in caplog.records] == [
        ("deactivation of n1", "250 ms"),
        (f"nodes from {REMOTE}", "750 ms, 1 transferred, 0 failed"),
        (f"reports from {REMOTE}", "250 ms, 0 transferred, 2 failed"),
        (f"sync with {REMOTE}", "2250 ms, 1 transferred, 2 failed"),
    ]


def test_a_deactivation_tells_its_certname_and_nothing_else(log: SyncLog, caplog: pytest.LogCaptureFixture) -> None:
    with log.deactivate("n1"):
        pass
    assert [shown(record) for record in caplog.records] == [
        {"phase": "deactivate", "event": "start", "certname": "n1"},
        {"phase": "deactivate", "event": "finished", "ok": True, "elapsed": 250, "certname": "n1"},
    ]


def test_no_attribute_is_used_that_the_formatter_would_drop(log: SyncLog, caplog: pytest.LogCaptureFixture) -> None:
    with log.sync(), log.entity(Entity.REPORTS), log.record(Entity.REPORTS, "q", "n", "h"):
        pass
    with log.deactivate("n"):
        pass
    assert {name for record in caplog.records for name in shown(record)} == set(SYNC_ATTRIBUTES)
