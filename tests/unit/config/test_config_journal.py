"""The settings of the journal, what counts as its place, and that a password in it is never shown."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.cli import config as command
from pdbclient.config import ClientConfig, load_config, without_password
from pdbclient.config.journal_place import check_journal_place

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]

BASE = "[main]\nserver_urls = https://a,https://b\n[pdbclient]\n"
SECRET = "geheim"
URL = f"postgresql://pdb:{SECRET}@db.example.com:5432/journal"


def _load(write: Write, text: str = "") -> ClientConfig:
    return load_config(write("puppetdb.conf", BASE + text), check_files=False)


def test_the_defaults(write: Write) -> None:
    """No journal; else two weeks, 10 GiB, 50 commands a second, and nothing is healed or refused unasked."""
    config = _load(write)
    assert config.journal is None
    assert config.journal_max_age == 14 * 86400
    assert config.journal_max_bytes == 10737418240
    assert config.journal_rate == 50
    assert config.journal_heal == "report"
    assert config.stale_exported == "serve"
    assert config.stale_exported_budget == 5.0
    assert config.node_ttl == 7 * 86400
    names = ("journal", "journal_max_age", "journal_max_bytes", "journal_rate", "journal_heal")
    assert {config.origins[name] for name in (*names, "stale_exported", "stale_exported_budget")} == {"default"}
    assert config.warnings == ()


def test_every_setting_arrives_in_its_field(write: Write) -> None:
    """With its line as its origin."""
    config = _load(
        write,
        "journal = /var/lib/pdbclient/journal.db\njournal_max_age = 36h\njournal_max_bytes = 1000000\n"
        "journal_rate = 7\njournal_heal = heal\nstale_exported = fail\nstale_exported_budget = 500ms\n"
        "node_ttl = 0s\n",
    )
    assert config.journal == "/var/lib/pdbclient/journal.db"
    assert config.journal_max_age == 36 * 3600
    assert config.journal_max_bytes == 1_000_000
    assert config.journal_rate == 7
    assert config.journal_heal == "heal"
    assert config.stale_exported == "fail"
    assert config.stale_exported_budget == 0.5
    assert config.node_ttl == 0
    assert config.origins["journal"].endswith("puppetdb.conf:4")
    assert config.origins["stale_exported_budget"].endswith("puppetdb.conf:10")
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("journal_max_age", "14", "needs a unit"),
        ("journal_max_age", "0d", "must be above 0"),
        ("journal_max_age", "for ever", "not a duration"),
        ("journal_max_bytes", "0", "must be a whole number from 1"),
        ("journal_max_bytes", "10G", "must be a whole number from 1"),
        ("journal_rate", "0", "must be a whole number from 1"),
        ("journal_rate", "0.5", "must be a whole number from 1"),
        ("journal_heal", "Heal", "must be heal or report, found 'Heal'"),
        ("journal_heal", "true", "must be heal or report, found 'true'"),
        ("stale_exported", "", "has no value: must be serve or fail"),
        ("stale_exported_budget", "0", "must be above 0"),
        ("node_ttl", "30", "needs a unit"),
        ("node_ttl", "for ever", "not a duration"),
        ("stale_exported_budget", "25h", "at most a day"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(
    write: Write, refused: Refused, setting: str, value: str, why: str
) -> None:
    """With its line and the reason."""
    (problem,) = refused(lambda: _load(write, f"journal = /j\n{setting} = {value}\n"))
    assert problem.startswith(f"5: {setting}: ")
    assert why in problem


@pytest.mark.parametrize(
    "place",
    [
        "/j",
        "/var/lib/with blanks/@:?#.db",
        URL,
        "postgres://pdb@db/journal",
        "postgresql://db/journal?sslmode=verify-full&connect_timeout=3",
        "postgresql://u:p%40%2F%25@[2001:db8::1]:5432/j",
        "postgresql://u:a:b@db/j",
        "postgresql://pdb@db1:5432,db2:5433/journal?target_session_attrs=read-write",
        "postgresql:///journal?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/journal",
    ],
)
def test_a_place_is_an_absolute_path_or_a_url_of_postgresql(write: Write, place: str) -> None:
    """It arrives as it was written."""
    assert _load(write, f"journal = {place}\n").journal == place


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("journal.db", "found a relative path: write the whole path, from / on"),
        ("./journal.db", "found a relative path"),
        ("~/journal.db", "found a relative path"),
        ("postgresql", "found a relative path"),
        ('"/var/lib/journal.db"', "quotes are not removed here"),
        ("/j\0", "cannot contain a NUL character"),
        ("", "has no value"),
        (f"mysql://u:{SECRET}@db/j", "found a URL of 'mysql'"),
        (f"https://u:{SECRET}@db/j", "found a URL of 'https'"),
        ("sqlite:////var/lib/journal.db", "found a URL of 'sqlite'"),
        ("file:/var/lib/journal.db", "found a URL of 'file'"),
        (f"PostgreSQL://u:{SECRET}@db/j", "found a URL of 'PostgreSQL'"),
        (f"u:{SECRET}@db/j", "found a relative path"),
        (f"host=db password={SECRET}", "found a relative path"),
        (f"postgresql:/u:{SECRET}@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET}@x@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET}/x@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:12/{SECRET}@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:12?{SECRET}@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET}#x@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET} x@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET}%@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://u:{SECRET}ü@db/j", "not a URL of PostgreSQL"),
        (f"postgresql://db/j?pass%77ord={SECRET}", "not a URL of PostgreSQL"),
        ("postgresql://db:port/j", "not a URL of PostgreSQL"),
    ],
)
def test_another_place_is_refused_with_its_reason_and_without_its_text(
    write: Write, refused: Refused, place: str, why: str
) -> None:
    """A wrong URL may hold a password as well as a right one."""
    (problem,) = refused(lambda: _load(write, f"journal = {place}\n"))
    assert problem.startswith("4: journal: ")
    assert why in problem
    assert SECRET not in problem


def test_hocon_takes_the_url_in_quotes(write: Write, refused: Refused) -> None:
    """Without them it is cut at //, and the message says so."""
    text = 'main {{ server_urls = "https://a" }}\npdbclient {{ journal = {} }}\n'
    assert load_config(write("p.conf", text.format(f'"{URL}"')), check_files=False).journal == URL
    unquoted = write("p.conf", text.format("postgresql://db/j\n"))
    (problem,) = refused(lambda: load_config(unquoted, check_files=False))
    assert problem.startswith("2: journal: ")
    assert "put the URL in double quotes" in problem


def test_settings_without_a_journal_are_a_warning(write: Write) -> None:
    """Each at its line; a null journal is none."""
    lines = ["journal_max_age = 1d", "journal_max_bytes = 1", "journal_rate = 1", "journal_heal = heal"]
    lines += ["stale_exported = fail", "stale_exported_budget = 1s"]
    config = _load(write, "\n".join(lines) + "\n")
    assert [(w.line, w.setting) for w in config.warnings] == [
        (number, line.split(" =")[0]) for number, line in enumerate(lines, start=4)
    ]
    assert all("has no effect without journal" in w.why for w in config.warnings)
    null = write("p.conf", 'main { server_urls = "https://a" }\npdbclient { journal = null, journal_rate = 1 }\n')
    assert "journal_rate" in [w.setting for w in load_config(null, check_files=False).warnings]


@pytest.mark.parametrize(
    ("soft", "journal", "warned"),
    [("true", True, True), ("false", True, False), (None, True, False), ("true", False, False)],
)
def test_soft_write_failure_beside_a_journal_is_a_warning(
    write: Write, soft: str | None, journal: bool, warned: bool
) -> None:
    """Only where it is switched on: then data can still be lost without an error, and for nothing."""
    text = f"[main]\n{'' if soft is None else f'soft_write_failure = {soft}'}\nserver_urls = https://a\n[pdbclient]\n"
    path = write("puppetdb.conf", text + ("journal = /j\n" if journal else ""))
    found = [w for w in load_config(path, check_files=False).warnings if w.setting == "soft_write_failure"]
    assert [w.line for w in found] == ([2] if warned else [])


def test_in_main_it_belongs_elsewhere(write: Write, refused: Refused) -> None:
    """The stock terminus would stop at it; the value is not repeated."""
    path = write("puppetdb.conf", f"[main]\nserver_urls = https://a\njournal = {URL}\n")
    assert refused(lambda: load_config(path, check_files=False)) == [
        "3: journal: belongs into the section [pdbclient]"
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"journal: {URL}",
        f"journal {URL}",
        f"pdbclient.journal = {URL}",
        f"[journal = postgresql://{'u' * 40}:{SECRET}@db",
        f"journal: postgresql://u:{SECRET}-{'x' * 80}@db",
    ],
)
def test_a_line_that_cannot_be_read_is_shown_without_its_password(write: Write, refused: Refused, line: str) -> None:
    """However long it is: the message cuts it."""
    problems = "\n".join(refused(lambda: _load(write, f"{line}\n")))
    assert "4: -: unreadable line" in problems
    assert SECRET not in problems


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_config_check_masks_the_password(
    options: tuple[str, ...], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the table as in JSON; the rest of the URL is shown."""
    path = write("puppetdb.conf", f"{BASE}journal = {URL}?sslpassword={SECRET}\n")
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["config", "check", "--syntax-only", "--config", str(path), *options])
    assert args.run(args) == 0
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    shown = "postgresql://pdb:***@db.example.com:5432/journal?sslpassword=***"
    if options:
        settings = json.loads(out)["puppetdb.conf"]["settings"]
        assert settings["journal"] == {"value": shown, "origin": f"{path}:4"}
    else:
        assert f"journal\t{shown}\t{path}:4\n" in out


def test_a_configuration_that_is_logged_whole_does_not_tell_the_password(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does its repr, which is what a traceback or a test shows."""
    config = _load(write, f"journal = {URL}\n")
    with caplog.at_level(logging.INFO):
        logging.getLogger("pdbclient").info("loaded %s", config)
    assert SECRET not in caplog.text
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/var/lib/u:p@x", "/var/lib/u:p@x"),
        ("postgresql://db:5432/j", "postgresql://db:5432/j"),
        ("postgresql://pdb@db:5432/j", "postgresql://pdb@db:5432/j"),
        ("postgresql://pdb@[::1]:5432/j", "postgresql://pdb@[::1]:5432/j"),
        ("postgres://pdb:x@db/j", "postgres://pdb:***@db/j"),
        ("postgresql://:x@db/j", "postgresql://:***@db/j"),
        ("postgresql://pdb:@db/j", "postgresql://pdb:***@db/j"),
        ("postgresql://u:a:b@[::1]:1/j", "postgresql://u:***@[::1]:1/j"),
        ("POSTGRESQL://u:x@db", "POSTGRESQL://u:***@db"),
        ("postgresql://u@v:x@y/z?w@db/j", "postgresql://u@v:***@db/j"),
        ("postgresql://db/j?password=x&sslmode=require", "postgresql://db/j?password=***&sslmode=require"),
        ("postgresql://db/j?sslmode=require&SSLPASSWORD=x", "postgresql://db/j?sslmode=require&SSLPASSWORD=***"),
        ("postgresql://db/j?oauth_client_secret=x", "postgresql://db/j?oauth_client_secret=***"),
        ("postgresql://db/j?scram_client_key=x", "postgresql://db/j?scram_client_key=***"),
        ("cannot reach postgresql://u:x@db/j", "cannot reach postgresql://u:***@db/j"),
        ("postgresql://u:x@db\npostgresql://u:y@db", "postgresql://u:***@db\npostgresql://u:***@db"),
    ],
)
def test_without_password_masks_passwords_and_nothing_else(text: str, shown: str) -> None:
    """Twice is as once."""
    assert without_password(text) == shown
    assert without_password(shown) == shown


_WORD = st.text("abcXYZ019._~%@:/?#&=,[] -", max_size=12)


@given(_WORD, _WORD, _WORD)
def test_no_place_that_is_taken_or_refused_gives_its_password_away(user: str, password: str, rest: str) -> None:
    """Whatever characters it has, encoded or not."""
    text = f"postgresql://{user}:{password}KENNWORT@{rest}"
    assert "KENNWORT" not in without_password(text)
    try:
        check_journal_place(text)
    except ValueError as error:
        assert "KENNWORT" not in str(error)  # noqa: PT017 - either outcome is right; neither may tell
