"""Tables, lines and JSON; and what of a machine's data never reaches a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from io import BytesIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.cli import output
from tests.faults.fake import answer

from .conftest import LONG, CliSite, Run

Child = Callable[..., "subprocess.Popen[bytes]"]

EVIL = "web\x1b[2J\x1b]0;owned\x07\x9b31m\u202egpj.exe\x7f\ttab\nline\rback"


def _written(monkeypatch: pytest.MonkeyPatch, write: Callable[[], None], encoding: str = "utf-8") -> bytes:
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding, newline="")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        write()
    stream.flush()
    return raw.getvalue()


def _terminal(child: Child, *argv: object, **env: str) -> str:
    """What a command shows on a terminal, standard error included."""
    master, slave = pty.openpty()
    try:
        settings = {"TERM": "dumb", "COLUMNS": "160", **env}
        process = child(*argv, stdout=slave, stderr=slave, stdin=slave, env=settings)
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
        process.wait(LONG)
    finally:
        os.close(master)
    return shown.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        # EIO: the other side is closed.
        return b""


def test_a_terminal_gets_a_table_with_a_heading(child: Child, site: CliSite) -> None:
    """Columns that line up, under their names."""
    lines = _terminal(child, "status", "--config", site.conf).splitlines()
    assert lines[0].split() == ["server", "state", "version", "queue", "error", "next", "for"]
    assert len(lines) == 3
    assert [line.index("running") for line in lines[1:]] == [lines[0].index("state")] * 2


def test_many_commands_show_how_far_they_are_on_a_terminal_only(child: Child, run: Run, site: CliSite) -> None:
    """A bar while it lasts, then the table; in a pipe nothing but the rows; for one command no bar."""
    command = ["submit", "deactivate", "--config", site.conf]
    many = _terminal(child, *command, *"abc", TERM="xterm")
    assert "submitting" in many
    assert [line.split()[0] for line in many.splitlines() if "deactivate node" in line] == ["a", "b", "c"]
    assert "submitting" not in _terminal(child, *command, "a", TERM="xterm")
    assert run(*command, *"abc").err == ""


def test_a_pipe_gets_tabs_and_no_heading(run: Run, site: CliSite) -> None:
    """One row a line, for cut and awk."""
    lines = run("status", "--config", site.conf).out.splitlines()
    assert [line.split("\t")[1:3] for line in lines] == [["running", "7.12.1"]] * 2


@pytest.mark.parametrize("argv", [("nodes",), ("query", "nodes{}"), ("exported", "File", "--for", "a")])
def test_no_control_character_of_the_data_reaches_the_terminal(
    argv: tuple[str, ...], child: Child, site: CliSite
) -> None:
    """A fact's value comes from a machine that may be somebody else's by now."""
    site.primary.reply = answer([{"certname": EVIL, "title": EVIL, EVIL: {"nested": EVIL}}])
    shown = _terminal(child, *argv, "--config", site.conf)
    assert r"web\x1b[2J" in shown.replace("\r\n", "")
    assert [char for char in shown.replace("\r\n", "") if unicodedata.category(char) in ("Cc", "Cf")] == []


@pytest.mark.parametrize("option", ["--json", "--lines"])
def test_json_on_a_terminal_is_harmless_and_exact(option: str, child: Child, site: CliSite) -> None:
    """Escaped as JSON escapes, so that a parser reads the very same value."""
    site.primary.reply = answer([{"certname": EVIL}])
    shown = _terminal(child, "query", "nodes{}", option, "--config", site.conf)
    assert [char for char in shown.replace("\r\n", "") if unicodedata.category(char) in ("Cc", "Cf")] == []
    value = json.loads(shown)
    assert (value[0] if option == "--json" else value) == {"certname": EVIL}


def test_messages_are_escaped_too(run: Run, site: CliSite) -> None:
    """What a server says, and what the caller gave."""
    site.primary.reply = answer(f"no {EVIL}".encode(), 400)
    for argv in (["query", "nodes{}"], ["submit", "deactivate", EVIL]):
        err = run(*argv, "--config", site.conf).err
        assert r"\x1b[2J" in err
        assert not set(err) & set("\x1b\x07\x9b\u202e\x7f\t\r")


def test_a_row_stays_one_line_in_a_pipe(run: Run, site: CliSite) -> None:
    """Tabs and line ends in a value are shown as such, and do not make cells or rows."""
    site.primary.reply = answer([{"certname": EVIL, "facts_timestamp": "now"}])
    lines = run("nodes", "--config", site.conf).out.split("\n")
    assert len(lines) == 2
    assert lines[1] == ""
    assert lines[0].split("\t")[1] == "now"


@given(st.text())
def test_json_gives_every_text_back_and_no_terminal_acts_on_it(text: str) -> None:
    """Whatever the text: the value is the same, and the document is one printable line."""
    with pytest.MonkeyPatch.context() as patch:
        written = _written(patch, lambda: output.print_json({text: text})).decode()
    assert json.loads(written) == {text: text}
    assert written.endswith("\n")
    assert written[:-1].isprintable()


@given(st.text())
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    """Escaped is what has to be, and nothing else."""
    shown = output.printable(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert (shown == text) == all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_printed_in_any_locale(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the locale lacks a character, its escape stands for it; half a character is one that all lack."""
    value = "ümläut ✓ 𝄞 \ud800"
    document = _written(monkeypatch, lambda: output.print_json(value), encoding)
    assert json.loads(document.decode(encoding)) == value
    table = _written(monkeypatch, lambda: output.print_table(["x"], [[value]]), encoding).decode(encoding)
    assert table.endswith("\\ud800\n")
    assert ("✓" in table) == (encoding == "utf-8")


def test_numbers_keep_their_value(run: Run, site: CliSite) -> None:
    """An integer is not a double on its way through."""
    site.primary.reply = answer(b'[{"value": 1180591620717411303424, "small": 0.1, "no": null}]')
    row = json.loads(run("query", "facts{}", "--json", "--config", site.conf).out)[0]
    assert row == {"value": 2**70, "small": 0.1, "no": None}


def test_a_terminal_is_told_when_nothing_was_found(child: Child, site: CliSite) -> None:
    """Silence would look like a failure; a pipe gets no line."""
    assert _terminal(child, "nodes", "--config", site.conf).splitlines() == ["nothing found"]


def test_a_pipe_gets_no_line_when_nothing_was_found(run: Run, site: CliSite) -> None:
    """No row is no line, and an empty list in JSON."""
    ended = run("nodes", "--config", site.conf)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert run("nodes", "--json", "--config", site.conf).out == "[]\n"


@pytest.mark.parametrize("option", ["--lines", "--json", None])
def test_a_reader_that_goes_away_ends_it_quietly(option: str | None, child: Child, site: CliSite) -> None:
    """`| head -1`: no traceback, no complaint of Python at exit, exit 0."""
    site.primary.reply = answer([{"certname": f"node{number}.example"} for number in range(20_000)])
    process = child("query", "nodes{}", *([option] if option else []), "--config", site.conf)
    assert process.stdout is not None
    assert b"node0.example" in process.stdout.read(40)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(LONG) == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [("--help",), ("status", "--json"), ("status",)])
def test_output_that_nobody_reads_is_no_error(
    argv: tuple[str, ...], unbuffered: str, child: Child, site: CliSite
) -> None:
    """`| true`: whether Python meets the closed pipe while it writes or when it ends."""
    read, write = os.pipe()
    os.close(read)
    config = [] if argv == ("--help",) else ["--config", site.conf]
    process = child(*argv, *config, stdout=write, env={"PYTHONUNBUFFERED": unbuffered})
    os.close(write)
    _, err = process.communicate(timeout=LONG)
    assert (process.returncode, err) == (0, b"")


def test_a_reader_that_goes_away_does_not_stop_commands_or_hide_a_failure(child: Child, site: CliSite) -> None:
    """All are submitted, and the exit code is that of the worst, whoever reads it."""
    read, write = os.pipe()
    os.close(read)
    certnames = [f"node{number}.example" for number in range(100)]
    process = child("submit", "deactivate", *certnames, "", "--json", "--config", site.conf, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert len(site.primary.commands) == 100


def test_a_full_disk_is_said_and_fails(child: Child, site: CliSite) -> None:
    """A result that could not be written is no success."""
    with open("/dev/full", "wb") as full:
        process = child("status", "--config", site.conf, stdout=full)
        _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1
    assert err == b"pdbclient: [Errno 28] No space left on device\n"
