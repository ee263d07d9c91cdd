"""The settings of the gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import ClientConfig, Endpoint, load_config
from pdbclient.config.urls import parse_local_url

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]

BASE = "[main]\nserver_urls = https://gw:8085,https://a,https://b\n[pdbclient]\ngateway_url = https://gw:8085\n"


def _load(write: Write, text: str = "") -> ClientConfig:
    return load_config(write("puppetdb.conf", BASE + text), check_files=False)


def test_the_defaults(write: Write) -> None:
    """Its own certname only, a check every two seconds, 64 requests at once, 128 MB a body."""
    config = _load(write)
    assert config.gateway_url == Endpoint("gw", 8085)
    assert config.gateway_allow == ()
    assert config.gateway_status_port is None
    assert config.gateway_health_interval == 2.0
    assert config.gateway_concurrency == 64
    assert config.gateway_max_body_bytes == 128 * 1024 * 1024
    assert config.gateway_max_url_bytes == 16 * 1024
    assert config.gateway_max_total_bytes == 512 * 1024 * 1024
    for name in ("allow", "health_interval", "concurrency", "max_body_bytes", "max_url_bytes", "max_total_bytes"):
        assert config.origins[f"gateway_{name}"] == "default"


def test_every_setting_arrives_in_its_field(write: Write) -> None:
    """With its line as its origin."""
    config = _load(
        write,
        "gateway_allow = Puppet.example.com, agent_1.example.com\ngateway_health_interval = 500ms\n"
        "gateway_concurrency = 8\ngateway_max_body_bytes = 1000000\ngateway_max_url_bytes = 65536\n"
        "gateway_max_total_bytes = 2000000\ngateway_status_port = 8089\n",
    )
    assert config.gateway_allow == ("puppet.example.com", "agent_1.example.com")
    assert config.gateway_health_interval == 0.5
    assert config.gateway_concurrency == 8
    assert config.gateway_max_body_bytes == 1_000_000
    assert config.gateway_max_url_bytes == 65_536
    assert config.gateway_max_total_bytes == 2_000_000
    assert config.gateway_status_port == 8089
    assert config.origins["gateway_allow"].endswith("puppetdb.conf:5")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        ("  a  ,  B.Example  ", ("a", "b.example")),
        ("*.example.com", None),
        ("a b", None),
        ("a,,b", None),
        ("a/b", None),
        ("ümläut", None),
        ("", None),
        (",", None),
    ],
)
def test_gateway_allow_is_a_list_of_certnames(
    write: Write, refused: Refused, text: str, names: tuple[str, ...] | None
) -> None:
    """Each of them a whole certname: there are no patterns, and nobody is allowed by mistake."""
    if names is not None:
        assert _load(write, f"gateway_allow = {text}\n").gateway_allow == names
        return
    (problem,) = refused(lambda: _load(write, f"gateway_allow = {text}\n"))
    assert problem.startswith("5: gateway_allow: ")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gateway_concurrency", "0"),
        ("gateway_concurrency", "65"),
        ("gateway_concurrency", "many"),
        ("gateway_max_body_bytes", "0"),
        ("gateway_max_body_bytes", "-1"),
        ("gateway_max_body_bytes", "1 MB"),
        ("gateway_max_total_bytes", "0"),
        ("gateway_max_url_bytes", "1000"),
        ("gateway_max_url_bytes", "10000000"),
        ("gateway_health_interval", "0"),
        ("gateway_health_interval", "-1"),
        ("gateway_health_interval", "often"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(write: Write, refused: Refused, setting: str, value: str) -> None:
    """With its line."""
    (problem,) = refused(lambda: _load(write, f"{setting} = {value}\n"))
    assert problem.startswith(f"5: {setting}: ")


def test_all_that_is_wrong_is_told_at_once(write: Write, refused: Refused) -> None:
    """As everywhere."""
    text = "gateway_allow = a b\ngateway_concurrency = 0\ngateway_max_body_bytes = x\n"
    assert [problem.split(":")[0] for problem in refused(lambda: _load(write, text))] == ["5", "6", "7"]


@pytest.mark.parametrize("setting", ["gateway_allow", "gateway_concurrency"])
def test_they_are_none_of_the_stock_terminus_settings(write: Write, refused: Refused, setting: str) -> None:
    """In [main] it would stop at them."""
    path = write("puppetdb.conf", f"[main]\n{setting} = 1\n")
    assert any(setting in problem for problem in refused(lambda: load_config(path, check_files=False)))


@pytest.mark.parametrize(
    ("text", "so"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("HTTP://localhost:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://127.8.8.8:1", "http://127.8.8.8:1"),
    ],
)
def test_an_address_of_the_loopback_is_one(text: str, so: str) -> None:
    assert str(parse_local_url(text)) == so


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://127.0.0.1:8080", "must be http://127.0.0.1:PORT"),
        ("http://127.0.0.1", "needs a port"),
        ("http://127.0.0.1:0", "port must be 1 to 65535"),
        ("http://0.0.0.0:8080", "address of the loopback"),
        ("http://192.0.2.1:8080", "address of the loopback"),
        ("http://puppet.example:8080", "address of the loopback"),
        ("http://[::]:8080", "address of the loopback"),
        ("http://127.0.0.1:8080/pdb", "and no more"),
        ("http://user:secret@127.0.0.1:8080", "and no more"),
        ("127.0.0.1:8080", "must be http://127.0.0.1:PORT"),
        ("", "no value"),
    ],
)
def test_anything_else_is_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_local_url(text)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "gateway_url = https://localhost:8085\ngateway_status_port = 8085\n",
            ["5: gateway_status_port: gateway_url"],
        ),
        (
            "gateway_url = https://127.0.0.1:8085\ngateway_status_port = 8085\n",
            ["5: gateway_status_port: gateway_url"],
        ),
        (
            "gateway_url = https://localhost:8085\ngateway_local_url = http://[0:0::1]:8085\n",
            ["5: gateway_local_url: gateway_url"],
        ),
        (
            "gateway_url = https://gw:8085\ngateway_status_port = 8086\ngateway_local_url = http://localhost:8086\n",
            ["5: gateway_status_port: gateway_local_url"],
        ),
        ("gateway_url = https://127.0.0.2:8085\ngateway_status_port = 8085\n", []),
        ("gateway_url = https://[::1]:8085\ngateway_status_port = 8085\n", []),
        ("gateway_url = https://localhost:8085\ngateway_local_url = http://127.0.0.3:8085\n", []),
        ("gateway_status_port = 8086\ngateway_local_url = http://[::1]:8086\n", []),
        # What is broken draws no conclusions.
        ("gateway_url = https://localhost:8085/x\ngateway_status_port = 443\n", ["4: gateway_url: cannot contain"]),
    ],
)
def test_two_settings_that_name_one_address_are_refused(
    write: Write, refused: Refused, text: str, problems: list[str]
) -> None:
    """Else the gateway ends at its start, and says that another process listens there, which is itself."""
    path = write("puppetdb.conf", f"[main]\nserver_urls = https://localhost:8085,https://a\n[pdbclient]\n{text}")
    if not problems:
        assert load_config(path, check_files=False).server_urls
        return
    found = refused(lambda: load_config(path, check_files=False))
    assert len(found) == len(problems)
    for each, problem in zip(found, problems, strict=True):
        start, _, of = problem.rpartition(": ")
        assert each.startswith(start)
        assert of in each


def test_whose_port_it_is_stands_there_with_its_line_and_what_to_do(write: Write, refused: Refused) -> None:
    text = (
        "[main]\nserver_urls = https://localhost:8085,https://a\n[pdbclient]\ngateway_url = https://localhost:8085\n"
    )
    path = write("puppetdb.conf", f"{text}gateway_status_port = 8085\n")
    why = f"port 8085 is that of gateway_url, too ({path}:4): the gateway cannot listen at both: give it another one"
    assert refused(lambda: load_config(path, check_files=False)) == [f"5: gateway_status_port: {why}"]


def test_one_port_is_a_warning_where_a_name_decides_whether_it_is_one_address(write: Write) -> None:
    """What a name stands for is another matter on each machine: often 127.0.1.1, or an address of the network."""
    (warning,) = _load(write, "gateway_status_port = 8085\n").warnings
    assert (warning.line, warning.setting) == (5, "gateway_status_port")
    assert "where gw is 127.0.0.1 on this machine, the gateway cannot listen at both" in warning.why
    assert _load(write, "gateway_status_port = 8086\ngateway_local_url = http://127.0.0.1:8087\n").warnings == ()


def test_what_is_set_for_a_gateway_that_is_not_there_is_a_warning(write: Write) -> None:
    """`pdbclient gateway` would end at once."""
    text = "[main]\nserver_urls = https://a\n[pdbclient]\ngateway_status_port = 8089\ngateway_allow = x\n"
    warnings = load_config(write("puppetdb.conf", text), check_files=False).warnings
    assert [(each.line, each.setting) for each in warnings] == [(4, "gateway_status_port"), (5, "gateway_allow")]
    assert all("has no effect without gateway_url" in each.why for each in warnings)
