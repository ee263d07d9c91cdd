"""A real Prometheus that scrapes once a second, and what it is asked; promtool, its checker."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from pdbclient.lab.ports import free_port

from .puppet.installation import EXAMPLES
from .puppet.process import Server

__all__ = ["MONITORING", "RULES", "Prometheus", "promtool"]

MONITORING = EXAMPLES / "monitoring"
RULES = MONITORING / "pdbclient.rules.yml"


class Prometheus:
    """Scrapes `targets` (job -> port of 127.0.0.1) with the alerts that are shipped. Leaving the context ends it.

    `due`: when the alerts fire, in place of the minutes that they wait; None: as shipped.
    """

    def __init__(self, directory: Path, targets: Mapping[str, int], *, due: str | None = None) -> None:
        self._directory, self._port = directory, free_port()
        rules = RULES.read_text()
        if due is not None:
            rules = re.sub(r"^( +for): .*$", rf"\g<1>: {due}", rules, flags=re.M)
        (directory / RULES.name).write_text(rules)
        # The example, with the targets of this machine.
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        assert [job["job_name"] for job in config["scrape_configs"]] == list(targets)
        for job in config["scrape_configs"]:
            job["static_configs"][0]["targets"] = [f"127.0.0.1:{targets[job['job_name']]}"]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Prometheus:
        command: list[str | Path] = [
            "prometheus",
            f"--config.file={self._directory}/prometheus.yml",
            f"--storage.tsdb.path={self._directory}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._server = Server(command, self._directory / "prometheus.log")
        try:
            self._server.wait_until(self._ready, 60.0)
        except BaseException:
            self._server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        return list(self._get("query", query=expression)["result"])

    def values(self, label: str, series: str) -> list[str]:
        """The values of a label among the series."""
        return list(self._get(f"label/{label}/values", **{"match[]": series}))

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """The alerts that fire, by name: their labels."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self._get("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def promtool(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it; the two outputs are one."""
    command: Sequence[str] = ["promtool", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
