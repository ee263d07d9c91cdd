"""Log formats and the user's logging configuration."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdbclient.errors import ConfigError
from pdbclient.observe import logs
from pdbclient.sync.policy.model import Entity
from pdbclient.sync.run.events import SyncLog

EXAMPLE = Path(__file__).parents[3] / "puppet_conf_examples" / "logging.yaml"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is global: put the loggers back as they were, and close what a test opened."""
    loggers = [logging.getLogger(), logging.getLogger("sync")]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def test_what_makes_a_line_safe_to_show_is_there_before_it_is_needed() -> None:
    """With no descriptor left, a codec that was still to be read from a file made tracebacks of lines."""
    program = "import sys, pdbclient.observe.terminal; sys.exit('encodings.unicode_escape' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def record(message: str = "hello %s", *args: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("sync", logging.INFO, "file.py", 1, message, args or ("you",), None)
    made.created = 1_790_000_000.25
    made.__dict__.update(extra)
    return made


def test_a_json_line_has_the_common_fields_and_the_sync_attributes_at_the_top_level() -> None:
    line = json.loads(logs.JsonFormatter().format(record(phase="sync", event="finished", ok=True, elapsed=12)))
    assert line == {
        "timestamp": "2026-09-21T14:13:20.250Z",
        "level": "INFO",
        "logger": "sync",
        "message": "hello you",
        "phase": "sync",
        "event": "finished",
        "ok": True,
        "elapsed": 12,
    }


def test_a_json_line_shows_no_other_attribute_of_a_record() -> None:
    assert "secret" not in logs.JsonFormatter().format(record(secret="x"))


def test_a_json_line_stays_one_line_whatever_the_message_says() -> None:
    text = logs.JsonFormatter().format(record("a\nb\u2028c %s", "d"))
    assert "\n" not in text
    assert json.loads(text)["message"] == "a\nb\u2028c d"


def test_an_exception_is_part_of_the_json_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        made = record()
        made.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(logs.JsonFormatter().format(made))["exception"]


def test_a_text_line_has_time_level_logger_and_message() -> None:
    assert logs.TextFormatter().format(record()) == "2026-09-21T14:13:20.250Z INFO    sync: hello you"


@pytest.mark.parametrize("as_json", [True, False])
def test_without_a_file_everything_goes_to_standard_error(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None, json=as_json)
    logging.getLogger("sync").info("hello")
    logging.getLogger("sync").debug("not this")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("{") is as_json
    assert "hello" in lines[0]


def test_the_example_writes_sync_events_as_json_to_its_file_and_text_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(EXAMPLE.read_text())
    settings["handlers"]["sync_file"]["filename"] = str(tmp_path / "sync.json")
    changed = tmp_path / "logging.yaml"
    changed.write_text(yaml.safe_dump(settings))
    logs.configure(changed)
    with SyncLog("https://a:8081").entity(Entity.FACTS) as result:
        result.transferred = 2
    written = [json.loads(line) for line in (tmp_path / "sync.json").read_text().splitlines()]
    assert [(line["phase"], line["event"], line["entity"]) for line in written] == [
        ("entity", "finished", "facts"),
    ]
    (shown,) = capsys.readouterr().err.splitlines()
    assert " INFO    sync: facts from https://a:8081: finished in " in shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("formatters: [", "is not YAML"),
        ("just text", "must be a mapping"),
        ("handlers: {x: {class: no.such.Handler}}", "Unable to configure handler 'x'"),
        ("handlers: {x: {class: logging.FileHandler, filename: /nonexistent/dir/f}}", "/nonexistent/dir/f"),
        ("formatters: {x: {(): pdbclient.no.such}}", "pdbclient.no"),
        ("root: {level: LOUD}", "LOUD"),
        ("version: 7", "Unsupported version"),
    ],
)
def test_a_logging_configuration_that_does_not_work_is_a_problem_that_names_the_file(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "logging.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        logs.configure(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    assert why in problem.why


def test_a_missing_logging_configuration_is_a_problem_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        logs.configure(tmp_path / "missing.yaml")


def test_a_yaml_error_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "logging.yaml"
    path.write_text("root:\n  level: INFO\n  handlers: [\n")
    with pytest.raises(ConfigError) as caught:
        logs.configure(path)
    assert caught.value.problems[0].line == 4


def test_text_from_other_machines_cannot_forge_a_line_or_move_the_cursor() -> None:
    record = logging.LogRecord("sync", logging.INFO, "f", 1, "%s", ("a\nERROR forged\x1b[2J",), None)
    line = logs.TextFormatter().format(record)
    assert line.endswith(r"a\nERROR forged\x1b[2J")


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()], ids=["json", "text"])
def test_half_a_character_keeps_no_line_out_of_a_file(formatter: logging.Formatter, tmp_path: Path) -> None:
    """Also in a traceback."""
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    handler.setFormatter(formatter)
    try:
        raise ValueError("a \udcff b")
    except ValueError as error:
        raised = (ValueError, error, error.__traceback__)
    handler.handle(logging.LogRecord("pdbclient", logging.ERROR, __file__, 1, "of %s", ("\udcff",), raised))
    handler.close()
    written = (tmp_path / "log").read_text()
    assert "of \\udcff" in written
    assert "a \\udcff b" in written
