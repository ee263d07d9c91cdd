"""HOCON files: includes, comments, substitutions, and the line that a message names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import load_config, load_sync_config
from pdbclient.config.hocon_lines import key_lines
from pdbclient.config.reading import looks_like_hocon
from pdbclient.errors import ConfigError

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]

GUIDE = 'server_urls: ["https://a:8081", "https://b:8081"]'


@pytest.mark.parametrize(
    ("text", "hocon"),
    [
        ("", False),
        ("# only a comment\n", False),
        ("[main]\nserver_urls = https://a\n", False),
        (" [main]\n", False),
        (f"[main]\n{GUIDE}\n", False),
        (f"{GUIDE}\n", False),
        ("server_urls = https://a\n", False),
        (f"main: {{{GUIDE}}}\n", True),
        (f"main {{\n{GUIDE}\n}}\n", True),
        (f"// comment\nmain = {{ {GUIDE} }}\n", True),
        (f"main:\n{{ {GUIDE} }}\n", True),
        ('{"main": {"server_urls": ["https://a"]}}', True),
        ('main.server_urls = ["https://a"]\n', True),
        ('host = "a"\nmain { server_urls = ["https://"${host}] }\n', True),
        ('include "other.conf"\n', True),
        ('include required(file("/x.conf"))\n', True),
        ("[main]\nmain {\n", False),
        ("main {\n[main]\n", True),
    ],
)
def test_the_first_line_that_can_only_be_one_format_decides(text: str, hocon: bool) -> None:
    """The choice depends on the content alone."""
    assert looks_like_hocon(text) is hocon


def test_a_hocon_file_holds_both_sections(write: Write) -> None:
    """Numbers and booleans are read by the same rules as in ini."""
    path = write(
        "puppetdb.conf",
        f"main: {{\n  {GUIDE}, server_url_timeout: 20\n  sticky_read_failover: true\n}}\n"
        "pdbclient { read_timeout = 500ms, operation_timeout: 2 minutes, connect_timeout: 2.5 }\n",
    )
    config = load_config(path, check_files=False)
    assert [e.url for e in config.server_urls] == ["https://a:8081", "https://b:8081"]
    assert config.timeouts.attempt == 20
    assert config.timeouts.connect == 2.5
    assert config.timeouts.read == 0.5
    assert config.timeouts.operation == 120
    assert config.sticky_read_failover
    assert config.origins["server_urls"] == f"{path}:2"
    assert config.origins["sticky_read_failover"] == f"{path}:3"
    assert config.origins["read_timeout"] == f"{path}:5"
    assert config.warnings[0].why == "is HOCON: read here, but not by the stock terminus"


def test_comments_substitutions_and_includes_work(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An include is relative to the file that includes it; what a file defines can be used in the other."""
    monkeypatch.setenv("PDB_REPLICA", "replica.example.com")
    write("d/inner.conf", "port = 8081\npdbclient.connect_timeout = 1s\n")
    write("d/shared.conf", 'include "inner.conf"\nprimary = "primary.example.com"\n')
    path = write(
        "puppetdb.conf",
        'include "d/shared.conf" # the names\n'
        "// the list\n"
        'main.server_urls = ["https://"${primary}":"${port}, "https://"${PDB_REPLICA}":8081"]\n',
    )
    config = load_config(path, check_files=False)
    assert [e.host for e in config.server_urls] == ["primary.example.com", "replica.example.com"]
    assert config.timeouts.connect == 1
    assert config.origins["connect_timeout"] == f"{path.parent / 'd/inner.conf'}:2"


def test_a_substitution_may_be_named_like_its_setting(write: Write) -> None:
    """What stands beside the sections is only refused where the setting itself is missing."""
    path = write("puppetdb.conf", 'server_urls: ["https://a"]\nmain.server_urls: ${server_urls}\n')
    assert load_config(path, check_files=False).server_urls[0].host == "a"


def test_a_later_value_wins_and_null_unsets(write: Write) -> None:
    """Objects merge, as HOCON has it."""
    path = write(
        "puppetdb.conf",
        "main { server_url_timeout = 5, min_successful_submissions = null }\nmain.server_url_timeout = 6\n",
    )
    config = load_config(path, check_files=False)
    assert config.timeouts.attempt == 6
    assert config.min_successful_submissions == 1
    assert config.origins["server_url_timeout"] == f"{path}:2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("main {\n  server_urls = https://a\n}", "2: server_urls: must be https, found 'https:' (in HOCON //"),
        ("main {\n server_urls: 5\n}", "2: server_urls: must be https, found '5'"),
        ("main {\n server_urls: {a: 1}\n}", "2: server_urls: must be a list of URLs, found an object"),
        ("main {\n server_urls: [[]]\n}", "2: server_urls: every item must be a URL in double quotes"),
        ("main {\n server_urls: []\n}", "2: server_urls: names no server"),
        ("main {\n command_broadcast: yes\n}", "2: command_broadcast: must be true or false, found 'yes'"),
        ("main {\n\n command_broadcast: [true]\n}", "3: command_broadcast: must be true or false, found a list"),
        ("main {\n server-urls: []\n}", "2: server-urls: unknown setting: did you mean server_urls?"),
        ("main {\n server: a\n}", "2: server: retired: write server_urls"),
        ("mian {\n server_urls: []\n}", "1: -: nobody reads the section 'mian': did you mean 'main'?"),
        ('\nserver_urls: ["https://a"]\nmain {}', "2: server_urls: stands outside of any section: put it into main"),
        ("main {\n a = ${nowhere}\n}", "2: -: not valid HOCON: ${nowhere} stands for nothing"),
        ("main {\n", "2: -: not valid HOCON: a } is missing"),
        ("main {\n a: [1, 2\n}\n", "3: -: not valid HOCON: a value should stand here"),
        ('main {\n a: ["x" "y"', "2: -: not valid HOCON: a ] is missing"),
        ("main { = 3 }", "1: -: not valid HOCON: a setting's name is missing here: there is = in its place"),
        ('main { "a" "b" }', "1: -: not valid HOCON: after a setting's name come : or = and its value, not }"),
        ('main {\n a: "x\n}', "2: -: not valid HOCON: the quotes of a text are not closed on its line"),
        ("main {}\ninclude file", "2: -: not valid HOCON: include needs the name of a file in quotes"),
        ('include required("nowhere.conf")\nmain {}', "-: -: not valid HOCON: required include file not found"),
    ],
)
def test_each_fault_of_a_hocon_file_is_named_with_its_line(
    text: str, problem: str, write: Write, refused: Refused
) -> None:
    """The line is found in the text, as the parser does not tell it."""
    (found,) = refused(lambda: load_config(write("puppetdb.conf", text), check_files=False))
    assert found.startswith(problem), found


def test_a_url_without_quotes_is_named_as_what_may_have_broken_a_list(write: Write, refused: Refused) -> None:
    """Its slashes begin a comment, which swallows what closes the list."""
    text = "sync {\n  remotes: [{server_url: https://b:8081, interval: 5m}]\n}\n"
    (found,) = refused(lambda: load_sync_config(write("sync.conf", text), check_files=False))
    assert found.endswith("(a URL needs double quotes: without them, // starts a comment)")


def test_a_fault_of_syntax_in_an_include_names_the_included_file(write: Write) -> None:
    """Not the file that includes it."""
    included = write("broken.conf", "a = 1\nb = ]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(write("puppetdb.conf", 'include "broken.conf"\nmain {}\n'), check_files=False)
    assert caught.value.problems[0].file == str(included)
    assert caught.value.problems[0].line == 2


@pytest.mark.parametrize("include", ['"binary.conf"', '"\\u0000.conf"', '"."'])
def test_an_include_that_cannot_be_read_is_a_problem_and_no_traceback(
    include: str, write: Write, refused: Refused
) -> None:
    """Not UTF-8, no file name, or a directory: never another exception."""
    write("binary.conf", b"\xff\xfe\xff")
    path = write("puppetdb.conf", f"include {include}\nmain {{ bogus = 1 }}\n")
    assert refused(lambda: load_config(path, check_files=False))


def test_the_line_of_every_key_is_found() -> None:
    """Nested, dotted, quoted, in lists of objects, with comments and strings that look like keys."""
    text = (
        "# sync: {\n"
        'sync: {\n  remotes: [{server_url: "x: {", interval: 5m}\n'
        '            {"server_url": """a\nb: 1""",\n interval = 1m}]\n'
        "  a.b = 1 // c: 2\n}\n"
        'sync.remotes += {server_url: ${sync}"y"}\n'
        "sync.later { deep: [1, 2\n3] , other: 1 }\n"
    )
    lines = key_lines(text)
    assert lines["sync.remotes.0.server_url"] == 3
    assert lines["sync.remotes.1.server_url"] == 4
    assert lines["sync.remotes.1.interval"] == 6
    assert lines["sync.a.b"] == 7
    assert lines["sync.later.deep"] == 10
    assert lines["sync.later.other"] == 11
    assert lines["sync.remotes"] == 9
    assert "sync.c" not in lines
    assert "b" not in lines
