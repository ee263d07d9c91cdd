"""Facts and reports: what the stock terminus would send, and what we make of Puppet's files of the same objects.

Real runs of each Puppet, real facts, the stock code of its puppet-terminus-puppetdb; nothing is sent, so no PuppetDB
is needed. Whatever differs is one of the `report_corrections`, and all of those occur.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus import puppet_file
from pdbclient.terminus.facts import facts_payload
from pdbclient.terminus.puppet_file import Kind
from pdbclient.terminus.report import report_payload
from pdbclient.terminus.ruby_characters import ruby_of
from pdbclient.terminus.ruby_inspect import ruby_inspect
from pdbclient.terminus.ruby_yaml import read_yaml
from pdbclient.wire.command import Command
from pdbclient.wire.limits import index_warnings
from tests.integration.puppet.stock import StockPuppet, parameters
from tests.integration.report_corrections import CORRECTIONS, FORM, MISSING, OBJECTS, ReportCorrection
from tests.integration.report_stamps import SPANS, STAMPS

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
DRIVER = HERE / "stock_facts_reports.rb"
NODE = "n1.example"
REMOTE = {
    **{"authenticated": "remote", "certname": NODE, "hostname": "n1", "domain": "example"},
    **{"extensions": {"pp_role": "web", "1.3.6.1.4": "ü"}, "external": {"a": [1]}},
}
INDEX_CASES = ("first", "first-reread", "first-rejson", "first-unchanged", "second-reread", "noop", "case-job-id")
UNCHANGED = "-unchanged"


SCALARS = (HERE / "stock_reports/scalars.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module", params=parameters())
def puppet(request: pytest.FixtureRequest) -> StockPuppet:
    """Each Puppet that runs and reports."""
    stock: StockPuppet = request.param
    return stock


@pytest.fixture(scope="module")
def out(puppet: StockPuppet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the driver has written what Puppet writes and what stock would send: three runs, one failure, cases."""

    def drive(*argv: object, **env: str) -> None:
        puppet.ruby("-E", "UTF-8", DRIVER, *argv, env=env)

    directory = tmp_path_factory.mktemp("stock-reports")
    out, target, facts = (directory / name for name in ("out", "target", "facts"))
    types = directory / "code/environments/production/modules/demo/lib/puppet/type"
    for path in (out, target, facts, types):
        path.mkdir(parents=True)
    shutil.copy(HERE / "stock_reports/thing.rb", types)
    shutil.copy(HERE / "stock_reports/inventory.rb", facts)
    manifest = directory / "site.pp"
    manifest.write_text(f"$target = '{target}'\n" + (HERE / "stock_reports/site.pp").read_text(encoding="utf-8"))
    places = ["--confdir", directory / "conf", "--vardir", directory / "var"]
    apply = ["apply", *places, "--codedir", directory / "code", "--certname", NODE, "--reports", "noted", manifest]
    # Puppet 8 leaves out of its report what the stock code of `puppet apply` has in memory: see case-excluded.
    apply.append("--no-exclude_unchanged_resources")

    (target / "audited").write_text("as it was")
    drive("run", out, *apply, NOTED_AS="first")
    (target / "audited").write_text("changed")
    (target / "written").write_text("tampered with")
    drive("run", out, *apply, NOTED_AS="second")
    drive("run", out, *apply, "--noop", NOTED_AS="noop")
    # Only an agent remembers what it set, and reports without a catalog.
    agent = ["agent", out, directory / "agent-conf", directory / "agent-var"]
    one_file = f"file {{ '{target}/one': ensure => file, content => 'a' }}"
    drive(*agent, one_file, NOTED_AS="set")
    (target / "one").write_text("tampered with")
    drive(*agent, one_file, NOTED_AS="corrected")
    drive(*agent, "nosuch_function('ü')", NOTED_AS="failed")
    (out / "scalars.in.json").write_text(json.dumps(SCALARS))
    (out / "stamps.in.json").write_text(json.dumps({"stamps": STAMPS, "spans": SPANS}))
    reports = (out / "first.yaml", out / "second.yaml")
    drive("objects", out, directory / "conf", directory / "var", *reports, FACTERLIB=str(facts))
    return out


@dataclass(frozen=True)
class Compared:
    """One object, one of its files."""

    case: str
    stock: dict[str, Any]
    warned: list[str]
    ours: dict[str, Any]
    warnings: tuple[str, ...]


def _stock(out: Path, case: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((out / f"{case}.stock.json").read_bytes())
    return answer


def _ours(path: Path, case: str, producer: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    file = puppet_file.read(path.read_bytes())
    if file.kind is Kind.REPORT:
        unchanged = case.endswith(UNCHANGED)
        report = report_payload(file.document, producer=producer, include_unchanged_resources=unchanged)
        large = index_warnings("store report", report.payload)
        return report.payload, (*report.warnings, *large)
    assert file.kind is Kind.FACTS
    trusted = REMOTE if case in ("facts-remote", "facts-trusted") else None
    return facts_payload(file.document, producer=producer, environment="production", trusted=trusted), ()


def _cases(out: Path) -> list[str]:
    return sorted(path.name.removesuffix(".stock.json") for path in out.glob("*.stock.json"))


def _compared(out: Path) -> Iterator[Compared]:
    """Every object that stock can send, from each of its files."""
    for case in _cases(out):
        answer = _stock(out, case)
        if "payload" not in answer:
            continue
        stock = json.loads(answer["payload"])
        stock.pop("producer_timestamp")
        files = sorted(out.glob(f"{re.sub('-(reread|rejson|unchanged)$', '', case)}.*"))
        for path in files:
            form = path.name.partition(".")[2]
            if form in ("yaml", "json", "find.yaml"):
                ours, warnings = _ours(path, case, stock["producer"])
                yield Compared(f"{case} {form}", stock, answer["warnings"], ours, warnings)


def _differences(stock: Any, ours: Any, path: str = "$") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(stock, dict) and isinstance(ours, dict):
        for key in {**stock, **ours}:
            yield from _differences(stock.get(key, MISSING), ours.get(key, MISSING), f"{path}.{key}")
    elif isinstance(stock, list) and isinstance(ours, list):
        for at in range(max(len(stock), len(ours))):
            left, right = (items[at] if at < len(items) else MISSING for items in (stock, ours))
            yield from _differences(left, right, f"{path}[{at}]")
    elif type(stock) is not type(ours) or repr(stock) != repr(ours):
        left, right = (str(value) if isinstance(value, list | dict) else value for value in (stock, ours))
        yield path, left, right


def test_payloads_are_those_of_the_stock_code_but_for_the_corrections(out: Path) -> None:
    """From YAML and from JSON; and every correction occurs."""
    makes_objects = json.loads((out / "makes_objects.out.json").read_bytes())
    corrections = [*CORRECTIONS, *FORM, *([OBJECTS] if makes_objects else [])]
    seen: Counter[ReportCorrection] = Counter()
    unexplained = []
    compared = list(_compared(out))
    for one in compared:
        for path, stock, ours in _differences(one.stock, one.ours):
            found = [c for c in corrections if c.explains(one.case, path, stock, ours)]
            seen.update(found[:1])
            if not found:
                unexplained.append((one.case, path, stock, ours))
    assert unexplained == []
    assert [correction.why for correction in corrections if not seen[correction]] == []
    assert len(compared) >= 2 * 30


@pytest.mark.parametrize("case", ["first", "second"])
@pytest.mark.parametrize("way", ["reread", "rejson", "unchanged"])
def test_a_report_is_the_stock_codes_of_a_server_without_any_difference(case: str, way: str, out: Path) -> None:
    """Stock gets the report from the same file, as it does on a server: no correction is needed."""
    stock = json.loads(_stock(out, f"{case}-{way}")["payload"])
    del stock["producer_timestamp"]
    for form in ("yaml", "json"):
        ours, _ = _ours(out / f"{case}.{form}", f"{case}-{way}", stock["producer"])
        assert list(_differences(stock, ours)) == []


def test_the_runs_have_everything_that_a_report_can_have(out: Path) -> None:
    """Changes, failures, skipped and unchanged resources, noop, audit, corrective change, values of all kinds."""
    texts = {case: _stock(out, case)["payload"] for case in ("first", "second", "noop", "corrected", "failed")}
    payloads = {case: json.loads(text) for case, text in texts.items()}
    events = [e for payload in payloads.values() for r in payload["resources"] for e in r["events"]]
    assert {event["status"] for event in events} == {"success", "failure", "noop", "audit"}
    assert any(event["corrective_change"] for event in events)
    assert any(resource["skipped"] for resource in payloads["first"]["resources"])
    assert {payload["noop"] for payload in payloads.values()} == {True, False}
    assert {payload["status"] for payload in payloads.values()} >= {"failed"}
    values = {event["old_value"] for event in events}
    assert {'["0644", 1, "ü\\n"]', "0.1", ""} <= values
    assert any("☃" in log["message"] for log in payloads["first"]["logs"])
    assert max(len(resource["resource_title"]) for resource in payloads["first"]["resources"]) > 2700
    assert "hunter2" not in "".join(texts.values())
    failed = payloads["failed"]
    assert (failed["resources"], failed["status"], failed["configuration_version"]) == ([], "failed", "")
    facts = json.loads(_stock(out, "facts-real")["payload"])
    assert facts["values"]["os"]["name"] == "Debian"
    assert len(facts["package_inventory"]) == 2


def test_every_payload_can_be_sent(out: Path) -> None:
    """It passes the check of the wire format, without a loss; but for a fact whose name PuppetDB has no room for."""
    for one in _compared(out):
        name = "replace facts" if one.case.startswith("facts-") else "store report"
        payload, values = one.ours, one.ours.get("values", {})
        if stored := {fact: value for fact, value in values.items() if len(fact) <= 1024}:
            payload = payload | {"values": stored}
        if stored != values:
            with pytest.raises(InvalidCommand, match="has 1500 characters"):
                Command.create(name, one.ours, now=datetime.now(UTC))
        command = Command.create(name, payload, now=datetime.now(UTC))
        assert command.certname == NODE
        losses = [warning for warning in command.warnings if "U+0000" not in warning]
        assert losses == [warning for warning in one.warnings if "bytes" in warning]


def test_the_stock_code_cannot_send_a_resource_without_a_status_and_we_can(out: Path) -> None:
    """It is left out; the rest is the report."""
    assert "NoMethodError" in _stock(out, "case-nil-status")["error"]
    for form in ("yaml", "json"):
        ours, _ = _ours(out / f"case-nil-status.{form}", "case-nil-status", "x")
        without, _ = _ours(out / "first.json", "first", "x")
        assert list(_differences(without, ours)) == []


def test_neither_sends_a_report_without_an_environment(out: Path) -> None:
    """Stock says so in its words, we in ours."""
    assert "Environment is nil" in _stock(out, "case-environment")["error"]
    with pytest.raises(Exception, match=r"\$\.environment: is missing"):
        _ours(out / "case-environment.yaml", "case-environment", "x")


def test_the_stock_code_sends_a_fact_named_trusted_twice_and_we_once(out: Path) -> None:
    """Two equal keys in one object, of which the reader may take either: the forged one too."""
    raw = _stock(out, "facts-trusted")["payload"]
    assert raw.count('"trusted":') == 2
    assert "forged" in raw
    for form in ("yaml", "json"):
        ours, _ = _ours(out / f"facts-trusted.{form}", "facts-trusted", "x")
        assert ours["values"]["trusted"] == REMOTE


def test_too_large_resources_are_warned_of_as_by_the_stock_code(out: Path) -> None:
    """The near and the large one; but not those that are not sent, which is a correction."""
    for one in _compared(out):
        stock_sizes = [text for text in one.warned if "resource_event" in text]
        ours = [text for text in one.warnings if "bytes" in text]
        name, _, _ = one.case.partition(" ")
        assert len(ours) == len(stock_sizes) - (name == "case-unsent-large"), one.case
        if name in INDEX_CASES:
            assert len(ours) == 2, one.case
            assert f"have {_size(stock_sizes)} bytes" in "".join(ours)


def _size(warnings: list[str]) -> str:
    found = re.search(r"are (\d+) bytes", "".join(warnings))
    assert found is not None
    return found[1]


def test_plain_scalars_are_read_as_ruby_reads_them_and_written_as_it_writes_them(out: Path) -> None:
    """Except times, dates, base-60 numbers and what Ruby itself cannot read, whose text is kept."""
    answers = json.loads((out / "scalars.out.json").read_text(encoding="utf-8"))
    assert len(answers) == len(SCALARS)
    for text, answer in zip(SCALARS, answers, strict=True):
        (ours,) = _list(read_yaml(f"- {text}\n".encode()))
        if "text" in answer or text in BASE_60:
            assert ours == text
        elif text not in NOT_DATA:
            same = ours == answer["value"] and type(ours) is type(answer["value"])
            both_nan = isinstance(ours, float) and math.isnan(ours) and math.isnan(answer["value"])
            assert same or both_nan, (text, ours, answer)
            assert ruby_inspect(ours) == answer["inspect"] or text.startswith("!binary")


BASE_60 = {"10:20:30", "00:1b:63"}
NOT_DATA = {"!ruby/regexp /a/"}


def test_what_was_only_audited_is_in_no_report_that_puppet_8_sends(out: Path) -> None:
    """It is left out by default from 8 on: stock code in the run's own process has it, and no server ever gets it."""
    whole, sent = (
        {resource["resource_title"] for resource in _ours(out / f"{case}.json", case, "x")[0]["resources"]}
        for case in ("second", "case-excluded")
    )
    assert [Path(title).name for title in whole - sent] == ["audited"]
    assert sent < whole


@pytest.mark.soak
def test_no_stamp_is_off_by_a_millisecond(out: Path) -> None:
    """On every edge of rounding, in every zone, from JSON and from YAML: nothing is rounded up."""
    stock = json.loads(_stock(out / "stamps", "stamps")["payload"])
    assert [len(stock[field]) for field in ("resources", "logs")] == [len(STAMPS)] * 2
    for form in ("yaml", "json"):
        ours, _ = _ours(out / f"stamps/stamps.{form}", "stamps", stock["producer"])
        for theirs, mine in zip(stock["resources"], ours["resources"], strict=True):
            assert (theirs["resource_title"], theirs["timestamp"]) == (mine["resource_title"], mine["timestamp"])
            assert theirs["events"] == mine["events"]
        assert [log["time"] for log in stock["logs"]] == [log["time"] for log in ours["logs"]]


def test_a_run_starts_and_ends_when_the_stock_code_says(out: Path) -> None:
    """The end is a sum with a number that binary fractions cannot hold: exact, and cut."""
    report = json.loads((out / "first.json").read_bytes()) | {"resource_statuses": {}, "logs": []}
    answers = json.loads((out / "spans.out.json").read_bytes())
    for (start, total), times in zip(SPANS, answers, strict=True):
        metrics = {"time": {"name": "time", "label": "Time", "values": [["total", "Total", total]]}}
        ours = report_payload(report | {"time": start, "metrics": metrics}, producer=None).payload
        assert [ours["start_time"], ours["end_time"]] == times, (start, total)


def test_the_characters_that_ruby_prints_are_known_whatever_unicode_python_knows(
    puppet: StockPuppet, out: Path
) -> None:
    escaped = {
        code for first, last in json.loads((out / "escaped.out.json").read_bytes()) for code in range(first, last + 1)
    }
    ruby = ruby_of(puppet.version)
    codes = (code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)
    wrong = [hex(code) for code in codes if (ruby_inspect(chr(code), ruby) != f'"{chr(code)}"') != (code in escaped)]
    assert wrong == []


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
