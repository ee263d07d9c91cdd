"""Configuration directories of Puppet, on a machine that has none of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import puppet_conf
from pdbclient.errors import ConfigError

Confdir = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_puppet_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puppet_conf, "AIO_CONFDIR", tmp_path / "aio")
    monkeypatch.setattr(puppet_conf, "DEBIAN_CONFDIR", tmp_path / "debian")
    monkeypatch.setattr("socket.getfqdn", lambda: "Host.Example.com")


@pytest.fixture
def confdir(tmp_path: Path) -> Confdir:
    """A confdir with these files: `confdir({"puppet.conf": "[main]\\n"})`."""

    def make(files: dict[str, str]) -> Path:
        directory = tmp_path / "puppet"
        directory.mkdir(exist_ok=True)
        for name, text in files.items():
            (directory / name).write_bytes(text.encode())
        return directory

    return make


@pytest.fixture
def refused() -> Callable[[Callable[[], object]], list[str]]:
    """Call what must fail, and give its problems."""

    def call(act: Callable[[], object]) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            act()
        return [str(problem) for problem in caught.value.problems]

    return call
