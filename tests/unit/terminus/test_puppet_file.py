"""Files of Puppet's own, YAML and JSON, are read as data: exactly, safely, or with one clear error."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import yaml

from pdbclient.terminus import puppet_file, ruby_yaml
from pdbclient.terminus.puppet_file import Kind, PuppetFileError
from pdbclient.terminus.ruby_yaml import REDACTED, read_yaml

REPORT = b"""--- !ruby/object:Puppet::Transaction::Report
host: n1.example
time: 2026-01-31 12:00:00.123456789 +02:00
logs:
- !ruby/object:Puppet::Util::Log
  level: :notice
  tags: !ruby/object:Puppet::Util::TagSet
    hash:
      notice: true
      file: true
resource_statuses:
  "File[/x]": !ruby/object:Puppet::Resource::Status
    title: /x
"""


def _value(text: str) -> Any:
    document: Any = read_yaml(f"--- {text}\n".encode())
    return document


def test_objects_of_any_class_are_plain_data() -> None:
    """Symbols, sets and times too; the time keeps its nanoseconds and its zone."""
    file = puppet_file.read(REPORT)
    assert file.kind is Kind.REPORT
    assert file.document == {
        "host": "n1.example",
        "time": "2026-01-31 12:00:00.123456789 +02:00",
        "logs": [{"level": "notice", "tags": ["notice", "file"]}],
        "resource_statuses": {"File[/x]": {"title": "/x"}},
    }


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch /tmp/pwned']",
        "!!python/name:os.system x",
        "!ruby/object:Gem::Installer\n  i: x",
        "!ruby/object:Kernel {}",
        "!ruby/struct:Foo {a: 1}",
    ],
)
def test_nothing_is_instantiated(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag is a word on plain data: none of PyYAML's constructors is called."""

    def forbidden(*_: object) -> None:
        raise AssertionError("constructed")

    for name in ("construct_object", "construct_document", "get_single_data"):
        monkeypatch.setattr(yaml.constructor.BaseConstructor, name, forbidden)
    assert isinstance(_value(text), str | list | dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("12", 12), ("-0", 0), ("0644", 0o644), ("'0644'", "0644"), ("08", "08"), ("0x1F", 31), ("0b101", 5)),
        *(("1_000", 1000), ("1,000", 1000), (str(2**70), 2**70), ("0o17", "0o17"), ("1e5", "1e5")),
        *(("1.0e+20", 1e20), ("1.0e-07", 1e-7), (".5", 0.5), ("1.", 1.0), (".", "."), ("7.23.0", "7.23.0")),
        *(("true", True), ("Yes", True), ("off", False), ("y", "y"), ("n", "n"), ("~", None), ("NULL", None)),
        *(("", None), ("'null'", "null"), ('"yes"', "yes"), ("nullable", "nullable"), ("onto", "onto")),
        *((":a", "a"), (':"a b"', "a b"), ("':a'", ":a"), ("! ':a: b'", "a: b"), ("!ruby/sym a", "a")),
        *(("!ruby/symbol", ""), ("::1", ":1"), ("1:30", "1:30"), ("2026-01-31", "2026-01-31")),
        *(("!binary w6k=", "é"), ("!!binary /w==", "\udcff"), ("!!str 12", "12"), ("!str 12", "12")),
        *(("!!str '<<'", "<<"), ("|-\n  12", "12"), (".inf", math.inf), ("-.inf", -math.inf)),
    ],
)
def test_plain_scalars_are_what_rubys_writer_means(text: str, value: object) -> None:
    """It quotes what it does not mean so; of times, dates and base-60 numbers the text is kept."""
    found = read_yaml(f"- {text}\n".encode())
    assert found == [value]
    assert isinstance(found, list)
    assert type(found[0]) is type(value)


@pytest.mark.parametrize(
    ("key", "text"), [("1", "1"), ("true", "true"), ("~", ""), (":a", "a"), ("1.0e+20", "1.0e+20")]
)
def test_keys_are_text_as_ruby_writes_them_in_json(key: str, text: str) -> None:
    """Whatever they are in the file."""
    assert read_yaml(f"? {key}\n: x\n".encode()) == {text: "x"}


def test_of_two_equal_keys_the_last_wins() -> None:
    """In both languages, as in Ruby."""
    assert _value("{a: 1, a: 2}") == {"a": 2}
    assert puppet_file.read(b'{"a": 1, "a": 2}').document == {"a": 2}


@pytest.mark.parametrize(
    "secret",
    [
        "!ruby/object:Puppet::Pops::Types::PSensitiveType::Sensitive\n  value: &s hunter2",
        "!ruby/sensitive hunter2",
        "!ruby/object:Sensitive [&s hunter2]",
    ],
)
def test_a_sensitive_value_is_not_read(secret: str) -> None:
    """Nor what an alias elsewhere takes out of it."""
    again = "\nb: *s" if "&s" in secret else ""
    document = read_yaml(f"a: {secret}{again}\n".encode())
    assert isinstance(document, dict)
    assert document["a"] == REDACTED
    assert "hunter2" not in str(document)


def test_aliases_are_what_their_anchors_are() -> None:
    """Puppet's writer has them for every object that occurs twice."""
    assert _value("[&1 {a: [1]}, *1, &2 x, *2]") == [{"a": [1]}, {"a": [1]}, "x", "x"]


def test_a_bomb_of_aliases_is_refused_early() -> None:
    """Nine levels of nine: a few hundred bytes that would become gigabytes."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    began = time.monotonic()
    with pytest.raises(PuppetFileError, match="aliases make more than 64 MiB"):
        read_yaml("\n".join(levels).encode())
    assert time.monotonic() - began < 5


def test_a_bomb_of_long_text_is_refused_too() -> None:
    """It counts what is repeated, not how often."""
    text = "&1 " + "x" * 1_000_000
    with pytest.raises(PuppetFileError, match="aliases"):
        read_yaml(f"[{text}, {', '.join(['*1'] * 100)}]".encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"--- 12\n", "must be a JSON object, or a hash in YAML"),
        (b"- a\n", "must be a JSON object, or a hash in YAML"),
        (b"[1]", "must be a JSON object, or a hash in YAML"),
        (b"a: 1\n---\nb: 2\n", "line 2: has more than one document"),
        (b"a: [1\nb: 2\n", "line 2: is not YAML"),
        (b"a: 'x\n", "is not YAML"),
        (b"a: \xff\n", "is not YAML"),
        (b"a: \x00\n", "is not YAML"),
        (b"\x1f\x8b\x08\x00", "is not YAML"),
        (b"a: 1\n<<: {b: 1}\n", "line 2: has a merge key"),
        (b"a: &1 [*1]\n", "line 1: the alias *1 stands for nothing before it, or for itself"),
        (b"a: *b\n", "the alias *b stands for nothing"),
        (b"? [a]\n: b\n", "has a key that is a list or a hash"),
        (b"a: !binary x\n", "line 1: has binary data that is no base64"),
        ("a: !binary \u00e9\n".encode(), "line 1: has binary data that is no base64"),
        (b"a: " + b"1" * 5000, "has a number that is too long"),
        (b"a: " + b"[" * 300, "nested deeper than 200"),
        (b'{"a": 1', "is no JSON"),
        (b'{"a": 1}}', "is no JSON"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_bad_input_is_one_clear_error(data: bytes, reason: str) -> None:
    """One line, with the number of the line where there is one."""
    with pytest.raises(PuppetFileError) as caught:
        puppet_file.read(data)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_keeps_numbers_and_old_puppets_text() -> None:
    """Integers of any size; NaN and bytes that are no UTF-8 are for the command's check to name."""
    document: Any = puppet_file.read(b'\xef\xbb\xbf {"big": 1180591620717411303424, "f": 0.1}').document
    assert document == {"big": 2**70, "f": 0.1}
    assert math.isnan(puppet_file.read(b'{"a": NaN}').document["a"])  # type: ignore[arg-type]
    assert puppet_file.read(b'{"a": "\xff"}').document == {"a": "\udcff"}


FACTS = {"os": {"family": "Debian"}, "facterversion": "4.3.0"}
CATALOG = {"name": "a", "version": 1, "resources": [], "edges": []}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"name": "a", "values": FACTS, "timestamp": "x"}, Kind.FACTS),
        (FACTS, Kind.FACTS),
        (CATALOG, Kind.CATALOG),
        ({"catalog": CATALOG}, Kind.CATALOG),
        ({"host": "a", "resource_statuses": {}}, Kind.REPORT),
        ({"certname": "a", "values": {}, "producer_timestamp": "x"}, Kind.PAYLOAD),
        ({"environment": "production", "values": FACTS, "producer": None}, Kind.PAYLOAD),
        ({"certname": "a", "resources": []}, Kind.PAYLOAD),
        ({"os": {"family": "Debian"}}, Kind.PAYLOAD),
        ({}, Kind.PAYLOAD),
    ],
)
def test_a_file_is_known_by_its_content(document: dict[str, Any], kind: Kind) -> None:
    """The same in JSON and in YAML; what is none of Puppet's is left to the check of payloads."""
    for data in (json.dumps(document).encode(), b"---\n" + yaml.safe_dump(document).encode()):
        file = puppet_file.read(data)
        assert file.kind is kind
        assert puppet_file.is_json(data) is data.startswith(b"{")
    if document is not FACTS and "catalog" not in document:
        assert file.document == document


def test_bare_facts_get_a_name_when_they_have_one() -> None:
    """`puppet facts show` and `facter` print the values only; a puppet agent's have its certname."""
    named = puppet_file.read(json.dumps({**FACTS, "clientcert": "a"}).encode())
    assert named.document == {"name": "a", "values": {**FACTS, "clientcert": "a"}}
    assert puppet_file.read(json.dumps(FACTS).encode()).document == {"name": None, "values": FACTS}


def test_a_catalog_is_taken_out_of_the_servers_answer() -> None:
    """`/puppet/v4/catalog` wraps it."""
    assert puppet_file.read(json.dumps({"catalog": CATALOG}).encode()).document == CATALOG


def test_the_parser_in_python_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml."""
    fast = read_yaml(REPORT)
    monkeypatch.setattr(ruby_yaml, "_PARSER", yaml.SafeLoader)
    assert read_yaml(REPORT) == fast
    with pytest.raises(PuppetFileError, match="line 2: is not YAML"):
        read_yaml(b"a: [1\nb: 2\n")


def test_two_megabytes_are_read_in_seconds() -> None:
    """Measured: half a second. The limit is for a machine that is busy with other things."""
    status = (
        '  "File[/x%d]":\n    title: /x%d\n    containment_path:\n    - Stage[main]\n    - &%d File[/x]\n'
        "    time: '2026-01-31T12:00:00.123456789+00:00'\n    changed: false\n    evaluation_time: 0.001\n"
        "    again: *%d\n"
    )
    data = b"host: a\nresource_statuses:\n" + b"".join((status % (n, n, n, n)).encode() for n in range(11_000))
    assert len(data) > 2_000_000
    began = time.monotonic()
    document: Any = puppet_file.read(data).document
    assert time.monotonic() - began < 10
    assert len(document["resource_statuses"]) == 11_000


def test_what_puppet_catalog_compile_tells_before_the_catalog_is_passed_over() -> None:
    notices = b"\x1b[0;32mNotice: Compiled catalog for a.example in environment production in 0.02 seconds\x1b[0m\n"
    file = puppet_file.read(notices + b'{"name": "a.example", "resources": []}')
    assert (file.kind, file.document["name"]) == (Kind.CATALOG, "a.example")
