"""`pdbclient submit` on Puppet's own files: known by their content, converted, sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import CliSite, Run

FACTS = "--- !ruby/object:Puppet::Node::Facts\nname: a.example\nvalues:\n  n: 1\n  trusted: forged\n"
REPORT: dict[str, Any] = {
    **{"host": "a.example", "time": "2026-01-31T12:00:00.5+00:00", "configuration_version": 1, "job_id": 7},
    **{"report_format": 12, "puppet_version": "7.23.0", "status": "unchanged", "environment": "production"},
    **{"noop": False, "noop_pending": False, "corrective_change": False, "logs": [], "metrics": {}},
    "resource_statuses": {
        f"Notify[{title}]": {
            **{"title": title, "resource_type": "Notify", "time": "2026-01-31T12:00:00+00:00", "events": []},
            **{"file": "/site.pp", "line": 1, "skipped": skipped, "containment_path": [], "corrective_change": None},
        }
        for title, skipped in (("kept", True), ("unchanged", False))
    },
}
CATALOG = {
    **{"name": "a.example", "version": 1, "code_id": None, "catalog_uuid": None, "environment": "production"},
    "resources": [
        {"type": "Stage", "title": "main", "tags": ["stage"], "exported": False},
        {"type": "Class", "title": "Main", "tags": ["class"], "exported": False},
    ],
    "edges": [{"source": "Stage[main]", "target": "Class[Main]"}],
}


def _sent(site: CliSite) -> Any:
    (command,) = site.primary.commands
    return json.loads(command.body)


def _submit(run: Run, site: CliSite, tmp_path: Path, kind: str, content: str, *argv: object, main: str = "") -> Any:
    file = tmp_path / "file"
    file.write_text(content)
    conf = site.configured("own.conf", [site.primary.port], main)
    ended = run("submit", kind, file, *argv, "--json", "--config", conf)
    assert ended.code == 0, ended.err
    (entry,) = json.loads(ended.out)
    return entry


def test_facts_in_yaml_are_converted(run: Run, site: CliSite, tmp_path: Path) -> None:
    """The producer is the certname that the certificate's file is named after; there is no environment."""
    entry = _submit(run, site, tmp_path, "facts", FACTS)
    sent = _sent(site)
    assert entry["certname"] == sent["certname"] == "a.example"
    assert sent["values"]["n"] == 1
    assert sent["values"]["trusted"]["authenticated"] == "local"
    assert (sent["producer"], sent["environment"]) == ("client", None)
    assert sent["producer_timestamp"] == entry["producer_timestamp"]


def test_options_give_what_the_file_lacks(run: Run, site: CliSite, tmp_path: Path) -> None:
    """Bare facts, as `puppet facts show` prints them, need a name too."""
    options = ["--producer", "p.example", "--environment", "production", "--certname", "b.example"]
    _submit(run, site, tmp_path, "facts", json.dumps({"facterversion": "4.3.0", "n": 1}), *options)
    sent = _sent(site)
    assert (sent["certname"], sent["producer"], sent["environment"]) == ("b.example", "p.example", "production")
    assert sent["values"]["trusted"]["certname"] == "b.example"


@pytest.mark.parametrize(
    ("main", "titles"), [("", ["kept"]), ("include_unchanged_resources = true", ["kept", "unchanged"])]
)
def test_a_report_is_converted_as_puppetdb_conf_says(
    main: str, titles: list[str], run: Run, site: CliSite, tmp_path: Path
) -> None:
    """With or without unchanged resources."""
    _submit(run, site, tmp_path, "report", json.dumps(REPORT), main=main)
    sent = _sent(site)
    assert [resource["resource_title"] for resource in sent["resources"]] == titles
    assert (sent["job_id"], sent["certname"]) == ("7", "a.example")


@pytest.mark.parametrize(("main", "edges"), [("", 1), ("include_catalog_edges = false", 0)])
def test_a_catalog_is_converted_as_puppetdb_conf_says(
    main: str, edges: int, run: Run, site: CliSite, tmp_path: Path
) -> None:
    """With or without edges; also from the answer of the server."""
    _submit(run, site, tmp_path, "catalog", json.dumps({"catalog": CATALOG}), main=main)
    sent = _sent(site)
    assert (len(sent["edges"]), len(sent["resources"]), sent["environment"]) == (edges, 2, "production")


@pytest.mark.parametrize(("argv", "key"), [([], r'["\u0085"]'), (["--puppet-version", "7.23.0"], '["\x85"]')])
def test_a_catalog_is_that_of_the_puppet_version(
    run: Run, site: CliSite, tmp_path: Path, argv: list[str], key: str
) -> None:
    message = {"__ptype": "Hash", "__pvalue": [["\x85"], 1]}
    notify = {"type": "Notify", "title": "x", "tags": [], "exported": False, "parameters": {"message": message}}
    _submit(run, site, tmp_path, "catalog", json.dumps({**CATALOG, "resources": [notify], "edges": []}), *argv)
    assert _sent(site)["resources"][0]["parameters"] == {"message": {key: 1}}


def test_what_is_no_version_of_puppet_is_refused(run: Run, site: CliSite, tmp_path: Path) -> None:
    ended = run("submit", "catalog", tmp_path / "file", "--puppet-version", "seven")
    assert ended.code == 2
    assert "'seven' is no version of Puppet, for example 7.23.0 or 8" in ended.err


def test_what_puppetdb_will_not_store_is_listed_with_the_command(run: Run, site: CliSite, tmp_path: Path) -> None:
    """The report goes all the same."""
    statuses = {"x": REPORT["resource_statuses"]["Notify[kept]"] | {"title": "x" * 3000}}
    entry = _submit(run, site, tmp_path, "report", json.dumps(REPORT | {"resource_statuses": statuses}))
    (warning,) = entry["warnings"]
    assert "/site.pp:1" in warning
    assert entry["error"] is None


def test_the_good_packages_of_an_inventory_are_sent_and_the_bad_one_is_named(
    run: Run, site: CliSite, tmp_path: Path
) -> None:
    """One with a null version among them."""
    packages = [["a", "1", "apt"], ["b", None, "apt"]]
    facts = {"name": "pkg.example", "values": {"_puppet_inventory_1": {"packages": packages}, "x": 1}}
    entry = _submit(run, site, tmp_path, "facts", json.dumps(facts))
    assert _sent(site)["package_inventory"] == [["a", "1", "apt"]]
    (warning,) = entry["warnings"]
    assert "['b', None, 'apt']" in warning


OLD_REPORT = """--- !ruby/object:Puppet::Transaction::Report
  configuration_version: 1310000000
  host: old.example
  kind: apply
  logs:
    - !ruby/object:Puppet::Util::Log
      level: !ruby/sym notice
      message: created
      source: /Stage[main]//File[/tmp/a]/ensure
      tags: [notice, file]
      time: 2011-07-07 10:00:01.123456 +02:00
  metrics:
    time: !ruby/object:Puppet::Util::Metric
      label: Time
      name: time
      values:
        - [file, File, 0.25]
        - [total, Total, 1.5]
  puppet_version: 2.6.4
  resource_statuses:
    File[/tmp/a]: !ruby/object:Puppet::Resource::Status
      change_count: 1
      changed: true
      evaluation_time: 0.25
      events:
        - !ruby/object:Puppet::Transaction::Event
          audited: false
          desired_value: !ruby/sym present
          message: created
          name: !ruby/sym file_created
          previous_value: !ruby/sym absent
          property: ensure
          status: success
          time: 2011-07-07 10:00:01.1 +02:00
      failed: false
      file: /etc/puppet/site.pp
      line: 3
      out_of_sync: true
      out_of_sync_count: 1
      resource: File[/tmp/a]
      resource_type: File
      skipped: false
      tags: [file]
      time: 2011-07-07 10:00:01 +02:00
      title: /tmp/a
  time: 2011-07-07 10:00:00 +02:00
"""


@pytest.mark.parametrize("more", ["  report_format: 1\n", "  report_format: 2\n  status: changed\n"], ids=["1", "2"])
def test_a_report_of_an_old_format_is_sent_with_the_environment_that_is_given(
    run: Run, site: CliSite, tmp_path: Path, more: str
) -> None:
    """Formats 1 and 2 have none."""
    file = tmp_path / "old.yaml"
    file.write_text(OLD_REPORT + more)
    ended = run("submit", "report", file, "--config", site.conf)
    assert ended.code == 2
    assert "--environment" in ended.err
    entry = _submit(run, site, tmp_path, "report", OLD_REPORT + more, "--environment", "legacy")
    sent = _sent(site)
    assert (entry["certname"], sent["environment"], sent["report_format"]) == ("old.example", "legacy", int(more[17]))
    assert sent["resources"][0]["events"][0]["status"] == "success"


def test_a_reports_own_environment_may_be_replaced(run: Run, site: CliSite, tmp_path: Path) -> None:
    """As a catalog's."""
    _submit(run, site, tmp_path, "report", json.dumps(REPORT))
    _submit(run, site, tmp_path, "report", json.dumps(REPORT), "--environment", "other")
    assert [json.loads(each.body)["environment"] for each in site.primary.commands] == ["production", "other"]


def test_a_payload_goes_byte_for_byte(run: Run, site: CliSite, tmp_path: Path) -> None:
    """Its numbers keep their text; the options for Puppet's files do not touch it."""
    text = '{"certname": "a", "values": {"f": 1.10}, "environment": null, "producer": "p", '
    text += '"producer_timestamp": "2026-01-31T12:00:00Z"}'
    _submit(run, site, tmp_path, "facts", text, "--producer", "other")
    (command,) = site.primary.commands
    assert command.body == text.encode()


def test_a_payload_may_be_yaml(run: Run, site: CliSite, tmp_path: Path) -> None:
    """It is the same to us."""
    _submit(run, site, tmp_path, "facts", "certname: a\nvalues: {n: 1}\nenvironment: ~\nproducer: p\n")
    assert (_sent(site)["values"], _sent(site)["producer"]) == ({"n": 1}, "p")


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("catalog", FACTS, "the file holds Puppet's facts: for that there is `pdbclient submit facts`"),
        ("facts", json.dumps(REPORT), "the file holds Puppet's report: for that there is `pdbclient submit report`"),
        ("report", json.dumps(REPORT | {"environment": None}), "$.environment"),
        ("report", "a: [", "line 2: is not YAML"),
        ("report", "--- !ruby/object:Puppet::Node\nname: a\n", "contains unknown field"),
        ("facts", '{"facterversion": "4.3.0"}', "do not say of which node"),
        ("facts", "values: {a: 1}\nname: 12\n", "$.name"),
        ("facts", "", "is empty"),
        ("inputs", FACTS, "is no JSON"),
    ],
)
def test_a_file_that_cannot_be_sent_is_one_line(
    kind: str, content: str, reason: str, run: Run, site: CliSite, tmp_path: Path
) -> None:
    """Exit 2, what is wrong, nothing sent."""
    file = tmp_path / "file"
    file.write_text(content)
    ended = run("submit", kind, file, "--config", site.conf)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert ended.err.count("\n") == 1
    assert site.primary.requests == []
