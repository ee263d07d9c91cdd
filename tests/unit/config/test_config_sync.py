"""The reconciler's configuration: the guide's HOCON, the ini form, and what both refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import Endpoint, Remote, SyncConfig, Timeouts, load_sync_config
from pdbclient.errors import ConfigError

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]

GUIDE = """\
sync: {
  remotes: [{server_url: "https://replica-puppetdb.mycorp.net:8081",
             interval: 5m}]
}
"""
INI = "[sync]\nserver_urls = https://b,https://c:9000\nintervals = 2m,30s\n"


def _load(write: Write, text: str) -> SyncConfig:
    return load_sync_config(write("sync.conf", text), check_files=False)


def test_the_guides_own_text_is_read(write: Write) -> None:
    """Word for word, indented as in the guide."""
    indented = "".join(f"     {line}\n" for line in GUIDE.splitlines())
    for text in (GUIDE, indented, GUIDE.replace("\n", "\r\n"), "\ufeff" + GUIDE):
        config = _load(write, text)
        assert config.remotes == (Remote(Endpoint("replica-puppetdb.mycorp.net", 8081), 300.0),)
        assert config.local == Endpoint("host.example.com", 8081)


def test_the_ini_form_is_read(write: Write) -> None:
    """A URL without a port means PuppetDB's port here."""
    config = _load(write, INI)
    assert config.remotes == (Remote(Endpoint("b", 8081), 120.0), Remote(Endpoint("c", 9000), 30.0))
    assert [remote.endpoint.order for remote in config.remotes] == [0, 1]
    assert config.origins["remotes"].endswith("sync.conf:2")
    assert "server_urls" not in config.origins


def test_any_number_of_remotes_comments_substitutions_and_includes(write: Write) -> None:
    """Nothing of HOCON is lost on the way."""
    write("peers.conf", 'domain = "example.com"\nsync.report-ttl = 7d\n')
    config = _load(
        write,
        'include "peers.conf"\nevery = 90 seconds\n# three of them\nsync {\n'
        '  remotes = [{ server_url = "https://b."${domain}, interval = ${every} }\n'
        '    { server-url: "https://c:1", interval: 1.5h } // no comma above\n  ]\n'
        '  remotes += { server_url: "https://d", interval: 500 ms }\n}\n'
        'database { subname = "//localhost" }\n',
    )
    assert [(str(r.endpoint), r.interval) for r in config.remotes] == [
        ("https://b.example.com:8081", 90.0),
        ("https://c:1", 5400.0),
        ("https://d:8081", 0.5),
    ]
    assert config.report_ttl == 7 * 86400


def test_every_setting_arrives_in_its_field_with_dashes_or_underscores(write: Write) -> None:
    """Relative paths start from the file."""
    text = GUIDE.rstrip("}\n") + (
        "\n"
        '  local-url: "https://me"\n  ssl_ca_cert: ca.pem, ssl-cert: c.pem, ssl_key: k.pem, ssl_crl: r.pem\n'
        "  state_dir: state\n  entity-time-limit: 1h\n  report_ttl: 1d\n  node-purge-ttl: 2d\n"
        "  max_clock_skew: 5s\n  max-queue-depth: 10\n  batch_size: 3\n  concurrency: 2\n"
        '  logging_config: "logging.yaml"\n  connect_timeout: 1, read_timeout: 2s, operation_timeout: 3m\n'
        "  server_url_timeout: 0\n"
        '  audit-interval: 12h, one-way: true, entities: [facts, nodes, facts], certnames: "web*.a, db[12]"\n'
        "  max-age: 7d, status_port: 8090\n}\n"
    )
    config = _load(write, text)
    here = write("x").parent
    assert config.local == Endpoint("me", 8081)
    assert (config.tls.ca, config.tls.cert) == (here / "ca.pem", here / "c.pem")
    assert (config.tls.key, config.tls.crl) == (here / "k.pem", here / "r.pem")
    assert config.state_dir == here / "state"
    assert (config.entity_time_limit, config.report_ttl, config.node_purge_ttl) == (3600, 86400, 172800)
    assert (config.max_clock_skew, config.max_queue_depth) == (5, 10)
    assert (config.batch_size, config.concurrency) == (3, 2)
    assert config.logging_config == here / "logging.yaml"
    assert config.timeouts == Timeouts(attempt=0, connect=1, read=2, operation=180)
    assert (config.audit_interval, config.max_age, config.status_port) == (43200, 604800, 8090)
    assert config.one_way is True
    assert (config.entities, config.certnames) == (("facts", "nodes"), ("web*.a", "db[12]"))
    assert config.origins["entity_time_limit"] == f"{here}/sync.conf:7"


@pytest.mark.parametrize("never", ["0s", "0d", "999ms"])
def test_a_puppetdb_that_keeps_reports_and_purges_nodes_never_is_described_in_its_own_words(
    write: Write, never: str
) -> None:
    """PuppetDB collects nothing where such a time is no second (`seconds-pos?` in its services.clj)."""
    text = GUIDE.rstrip("}\n") + f"\n  report-ttl: {never}\n  node-purge-ttl: {never}\n}}\n"
    config = _load(write, text)
    assert (config.report_ttl, config.node_purge_ttl) == (0.0, 0.0)


def test_defaults_are_those_of_puppet_enterprise_where_it_has_them(write: Write) -> None:
    """30 minutes for an entity, 14 days for reports and for purging nodes."""
    config = _load(write, GUIDE)
    assert (config.entity_time_limit, config.report_ttl, config.node_purge_ttl) == (1800, 1209600, 1209600)
    assert config.max_clock_skew == 60
    assert config.audit_interval == 86400
    assert (config.one_way, config.entities, config.certnames, config.max_age) == (False, (), (), None)
    assert (config.status_port, config.logging_config) == (None, None)
    assert config.timeouts == Timeouts()
    assert config.origins["state_dir"] == "default"


@pytest.mark.parametrize(
    ("root", "installed", "expected"),
    [(True, False, "system"), (False, True, "system"), (False, False, "home/.local/state/pdbclient")],
)
def test_state_is_the_systems_for_root_and_where_the_unit_made_it_and_the_users_own_else(
    root: bool, installed: bool, expected: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that root, who asks how it is, looks where the daemon writes, as PuppetDB's user."""
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    if installed:
        (tmp_path / "system").mkdir()
    assert _load(write, GUIDE).state_dir == tmp_path / expected


def test_the_local_url_follows_puppets_certname(write: Write) -> None:
    """With the line of puppet.conf as its origin."""
    puppet = write("puppet.conf", "[main]\ncertname = db1.example.com\n")
    config = _load(write, GUIDE)
    assert config.local == Endpoint("db1.example.com", 8081)
    assert config.origins["local_url"] == f"{puppet}:2"


def _remote(text: str) -> str:
    return f"sync: {{\n remotes: [\n  {{{text}}}\n ]\n}}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            _remote('server_url: "https://b", interval: 5'),
            "3: remotes[0].interval: needs a unit, found '5' (write 5s",
        ),
        (_remote('server_url: "https://b", interval: 0s'), "3: remotes[0].interval: must be above 0"),
        (_remote('server_url: "https://b", interval: 5 weeks'), "3: remotes[0].interval: not a duration: '5 weeks'"),
        (_remote('server_url: "https://b"'), "3: remotes[0].interval: is missing"),
        (_remote("interval: 5m"), "3: remotes[0].server_url: is missing"),
        (_remote('server_url: "http://b:8080", interval: 5m'), "3: remotes[0].server_url: must be https, found"),
        (_remote("server_url: https://b\n, interval: 5m"), "3: remotes[0].server_url: must be https, found 'https:'"),
        (
            _remote('server_url: ["https://b"], interval: 5m'),
            "3: remotes[0].server_url: must be one URL, found a list",
        ),
        (
            _remote('server_url: "https://b", interval: 5m, timeout: 3'),
            "3: remotes[0].timeout: unknown setting",
        ),
        (
            _remote('server_url: "https://host.example.com", interval: 5m'),
            "3: remotes[0].server_url: https://host.example.com:8081 is the local PuppetDB",
        ),
        (
            _remote('server_url: "https://b", interval: 5m},\n{server_url: "https://B:8081/", interval: 1m'),
            "4: remotes[1].server_url: https://b:8081 is there twice",
        ),
        (
            _remote('server_url: "https://b.", interval: 5m'),
            "3: remotes[0].server_url: ends its host with a dot, as no certificate does: 'https://b.'",
        ),
        (
            'sync: {\n local_url: "https://a."\n remotes: [{server_url: "https://b", interval: 5m}]\n}',
            "2: local_url: ends its host with a dot",
        ),
        ("sync: {\n remotes: []\n}", "2: remotes: must be a list like"),
        ("sync: {\n remotes: {server_url: x}\n}", "2: remotes: must be a list like"),
        ("sync: {\n remotes: [5m]\n}", "2: remotes: number 1 must be an object like"),
        ("sync: {\n}", "1: remotes: is missing: write remotes: [{server_url"),
        ("sync: {\n remotes: null\n}", "1: remotes: is missing"),
        ("[sync]\n", "1: remotes: is missing"),
        ("[sync]\nserver_urls = https://b\n", "2: server_urls: server_urls has 1 and intervals has 0"),
        ("[sync]\nserver_urls = https://b,https://c\nintervals = 5m\n", "3: intervals: server_urls has 2 and inter"),
        ("[sync]\nintervals = 5m\n", "2: intervals: server_urls has 0 and intervals has 1"),
        ("[sync]\nserver_urls = https://b\nintervals = 5\n", "3: intervals: needs a unit, found '5'"),
        ("[sync]\nserver_urls = http://b\nintervals = 5m\n", "2: server_urls: must be https"),
        ("[sync]\nserver_urls = https://host.example.com\nintervals = 5m\n", "2: server_urls: https://host.example"),
        ("[sync]\nserver_urls = https://b,https://b\nintervals = 5m,5m\n", "2: server_urls: https://b:8081 is there"),
        (INI + "remotes = x\n", "4: remotes: cannot stand beside server_urls and intervals"),
        (INI + "batch-size = 0\n", "4: batch_size: must be a whole number from 1 to 1000, found '0'"),
        (INI + "one-way = yes\n", "4: one_way: must be true or false, found 'yes'"),
        (INI + "entities = facts,factsets\n", "4: entities: 'factsets' is none of nodes, fact_expiration, facts, "),
        (INI + "entities = []\n", "4: entities: names nothing: must list some of nodes, "),
        (INI + "certnames = a,,b\n", "4: certnames: there is an empty certname in the list"),
        (INI + "certnames = []\n", "4: certnames: names nobody"),
        (INI + "max-age = 7\n", "4: max_age: needs a unit, found '7'"),
        (INI + "status-port = 65536\n", "4: status_port: must be a whole number from 1 to 65535, found '65536'"),
        (INI + "batchsize = 5\n", "4: batchsize: unknown setting: did you mean batch_size?"),
        (INI + "entity-time-limit = 30\n", "4: entity_time_limit: needs a unit, found '30'"),
        (INI + "entity-time-limit = 1h\nentity_time_limit = 2h\n", "5: entity_time_limit: set twice"),
        (INI + "allow-unsafe-cleartext-sync = true\n", "4: allow_unsafe_cleartext_sync: pdbclient never syncs"),
        (INI + "local_url = http://x\n", "4: local_url: must be https"),
        (INI + "nonsense\n", "4: -: unreadable line 'nonsense'"),
        ("[database]\nsubname = x\n", "-: sync: there is no sync section in this file"),
        ("[snyc]\nserver_urls = https://b\n", "1: -: nobody reads the section 'snyc': did you mean 'sync'?"),
        ("server_urls = https://b\n", "1: server_urls: stands outside of any section: put a line [sync] above it"),
        ("", "-: sync: there is no sync section in this file"),
    ],
)
def test_each_fault_is_named_with_its_line(text: str, problem: str, write: Write, refused: Refused) -> None:
    """One reason, at the line of the setting."""
    (found,) = refused(lambda: _load(write, text))
    assert found.startswith(problem), found


def test_all_faults_are_reported_at_once_in_file_order(write: Write, refused: Refused) -> None:
    """Also those of several remotes."""
    text = (
        "sync: {\n concurrency: 0\n remotes: [\n"
        '  {server_url: "http://b", interval: 5}\n  {server_url: "https://c/x", interval: 1y}\n ]\n}\n'
    )
    assert [found.partition(": ")[0] for found in refused(lambda: _load(write, text))] == ["2", "4", "4", "5", "5"]


def test_certificates_and_logging_configuration_must_be_there(write: Write, tmp_path: Path) -> None:
    """Unless only the text is checked."""
    path = write("sync.conf", GUIDE.rstrip("}\n") + "\n logging_config: gone.yaml\n}\n")
    load_sync_config(path, check_files=False)
    with pytest.raises(ConfigError) as caught:
        load_sync_config(path)
    settings = [problem.setting for problem in caught.value.problems]
    assert settings == ["logging_config", "ssl_cert", "ssl_key", "ssl_ca_cert", "ssl_crl"]
    assert "set ssl_cert in the section sync, as the example" in caught.value.problems[1].why


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """There is no default for a sync configuration."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_sync_config(tmp_path / "nowhere.conf")


def test_the_status_port_is_not_that_of_the_local_puppetdb(write: Write, refused: Refused) -> None:
    """Refused where that surely is on this machine; else it may be another one."""
    text = (
        'sync: {{ local_url: "https://{}:8081", remotes: [{{server_url: "https://b", interval: 5m}}]\n'
        "status_port: {} }}\n"
    )
    path = write("sync.conf", text.format("localhost", 8081))
    why = "is the port of the local PuppetDB, https://localhost:8081 (local_url): take another one, like 8088"
    assert refused(lambda: load_sync_config(path, check_files=False)) == [f"2: status_port: {why}"]
    path = write("sync.conf", text.format("me.example", 8081))
    (warning,) = load_sync_config(path, check_files=False).warnings
    assert (warning.line, warning.setting, "where that is this machine" in warning.why) == (2, "status_port", True)
    path = write("sync.conf", text.format("localhost", 8088))
    assert load_sync_config(path, check_files=False).warnings == ()
