"""A machine with nothing of Puppet on it, and short ways to load a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import puppet_conf, sync_config
from pdbclient.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_puppet_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks at the Puppet of the machine it runs on."""
    monkeypatch.setattr(puppet_conf, "AIO_CONFDIR", tmp_path / "aio")
    monkeypatch.setattr(puppet_conf, "DEBIAN_CONFDIR", tmp_path / "debian")
    monkeypatch.setattr(puppet_conf, "DEBIAN_SSLDIR", tmp_path / "debian-ssl")
    monkeypatch.setattr(sync_config, "SYSTEM_STATE", tmp_path / "system")
    monkeypatch.setattr("socket.getfqdn", lambda: "Host.Example.com")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of the test's own directory: `write("puppetdb.conf", text)`."""

    def _write(name: str, content: str | bytes = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


@pytest.fixture
def refused() -> Callable[[Callable[[], object]], list[str]]:
    """Call what must fail, and give its problems as `line: setting: why`."""

    def _refused(load: Callable[[], object]) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load()
        # `-` for what is not known.
        return [f"{p.line or '-'}: {p.setting or '-'}: {p.why}" for p in caught.value.problems]

    return _refused
