"""puppetdb.conf: the gateway first, the PuppetDBs after it."""

from __future__ import annotations

import pytest

from pdbclient.config import Endpoint
from pdbclient.puppet_setup.puppetdb_conf import (
    WantedSetting,
    edit_puppetdb_conf,
    hints,
    problems_for_stock,
    servers_of,
)

GATEWAY, A, B = Endpoint("g", 8085), Endpoint("a", 8081), Endpoint("b", 8081)
WITH = "[main]\nserver_urls = https://g:8085,https://a:8081,https://b:8081\n\n[pdbclient]\ngateway_url = https://g:8085\n"


@pytest.mark.parametrize(
    ("before", "gateway", "after"),
    [
        ("", GATEWAY, WITH),
        (WITH, GATEWAY, WITH),
        ("[main]\nserver_urls = https://a:8081, https://b:8081/\n", GATEWAY,
         "[main]\nserver_urls = https://g:8085, https://a:8081, https://b:8081\n\n[pdbclient]\ngateway_url = https://g:8085\n"),
        ("[main]\nserver_urls = https://a:8081,https://b:8081/\n", None,
         "[main]\nserver_urls = https://a:8081,https://b:8081/\n"),
        (WITH, None, "[main]\nserver_urls = https://a:8081,https://b:8081\n\n[pdbclient]\n"),
        (WITH.replace("g:8085", "old:1"), GATEWAY, WITH),
        (WITH.replace("https://g:8085,https://a:8081", "https://a:8081,https://g:8085"), GATEWAY, WITH),
        ("[pdbclient]\n# limits\nread_timeout = 5s\n[main]\nserver_urls = https://a:8081,https://b:8081\nx = 1\n",
         GATEWAY,
         "[pdbclient]\n# limits\nread_timeout = 5s\ngateway_url = https://g:8085\n[main]\n"
         "server_urls = https://g:8085,https://a:8081,https://b:8081\nx = 1\n"),
    ],
)  # fmt: skip
def test_the_gateway_comes_first_or_goes_out(before: str, gateway: Endpoint | None, after: str) -> None:
    """An earlier gateway goes; what means the same already stays as it is written."""
    edited = edit_puppetdb_conf(before, gateway, servers_of(before) or (A, B))
    assert edited.text == after
    assert bool(edited.settings) == (before != after)
    assert edit_puppetdb_conf(after, gateway, servers_of(after) or ()).settings == ()


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (WITH, WantedSetting("pdbclient", "journal", "/j.db"), f"{WITH}journal = /j.db\n"),
        (f"{WITH}journal=/old.db # ours\n", WantedSetting("pdbclient", "journal", "/j.db"), f"{WITH}journal=/j.db\n"),
        (f"{WITH}journal = /j.db\n# kept\n", WantedSetting("pdbclient", "journal", None), f"{WITH}# kept\n"),
        (WITH, WantedSetting("pdbclient", "journal", None), WITH),
        (WITH, WantedSetting("main", "server_url_timeout", "30"),
         WITH.replace("b:8081\n", "b:8081\nserver_url_timeout = 30\n")),
    ],
)  # fmt: skip
def test_further_settings_are_set_where_they_stand_or_taken_out(
    before: str, wanted: WantedSetting, after: str
) -> None:
    """Once that is done, there is nothing left to do."""
    edited = edit_puppetdb_conf(before, GATEWAY, (A, B), [wanted])
    assert edited.text == after
    assert [(change.name, change.after) for change in edited.settings] == (
        [(wanted.name, wanted.value)] if before != after else []
    )
    assert edit_puppetdb_conf(after, GATEWAY, (A, B), [wanted]).settings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[main]\r\nserver_urls = https://a\r\n", "f:1: ends in CR LF"),
        ("\ufeff[main]\n", "f:1: begins with a byte order mark"),
        ('[main]\nserver_urls: ["https://a"]\n', "f:2: server_urls: the guide's list spelling"),
        ("[main]\nserver_urls = https://a, https://b,\n", "f:2: server_urls: the stock terminus takes the line end"),
        ("main { server_urls: [] }\n", "f: is HOCON, which the stock terminus cannot read"),
    ],
)
def test_what_stock_puppet_cannot_read_is_a_problem_though_pdbclient_can(text: str, expected: str) -> None:
    """Puppet itself is to use this file."""
    (problem,) = problems_for_stock(text, "f")
    assert str(problem).startswith(expected)


def test_a_file_that_stock_puppet_reads_is_none() -> None:
    """Even with remarks on it: a setting twice is no reason to stop."""
    assert problems_for_stock("[main]\nserver_urls = https://a\nserver_urls = https://b\n", "f") == []


@pytest.mark.parametrize("setting", ["command_broadcast", "sticky_read_failover"])
def test_a_setting_of_main_that_goes_around_the_gateway_is_told(setting: str) -> None:
    """Without a gateway it is as good as any other."""
    line = f"{setting} = true\n"
    (hint,) = hints(WITH.replace("[main]\n", f"[main]\n{line}"), "f")
    assert str(hint).startswith(f"f:2: {setting}: in [main], Puppet")
    assert "into [pdbclient]" in str(hint)
    assert hints(WITH + line, "f") == []
    assert hints(f"[main]\n{line}", "f") == []
