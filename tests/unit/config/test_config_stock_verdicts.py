"""Every row of the stock parser's behaviour, by the table in stock_verdicts.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdbclient.config import load_config
from pdbclient.errors import ConfigError, Problem

CASES = yaml.safe_load(Path(__file__).with_name("stock_verdicts.yaml").read_text(encoding="utf-8"))


def _content(case: dict[str, Any]) -> bytes:
    return bytes(case["bytes"]) if "bytes" in case else case["text"].encode()


def _matches(problems: tuple[Problem, ...], expected: list[str], file: str) -> None:
    texts = [f"{p.line or '-'}: {p.setting or '-'}: {p.why}" for p in problems]
    assert len(texts) == len(expected), texts
    for text, beginning in zip(texts, expected, strict=True):
        assert text.startswith(beginning), texts
    assert {p.file for p in problems} <= {file}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_file_gets_its_verdict_with_every_problem_in_file_order(
    case: dict[str, Any], write: Callable[..., Path]
) -> None:
    """Verdict, lines, settings and reasons are those of the table."""
    path = write("puppetdb.conf", _content(case))
    if case["ours"] != "ok":
        with pytest.raises(ConfigError) as caught:
            load_config(path, check_files=False)
        _matches(caught.value.problems, case["ours"], str(path))
        return
    config = load_config(path, check_files=False)
    _matches(config.warnings, case.get("warnings", []), str(path))
    if "urls" in case:
        assert [url.url for url in config.server_urls] == case["urls"]


def test_the_table_gives_a_reason_wherever_it_leaves_the_stock_verdict() -> None:
    """A difference from the stock terminus is a decision, and written down as one."""
    for case in CASES:
        differs = (case["stock"] == "ok") != (case["ours"] == "ok")
        assert differs == ("because" in case), case["name"]


def test_a_password_in_a_url_is_never_repeated(write: Callable[..., Path]) -> None:
    """Messages end up in logs."""
    path = write("puppetdb.conf", "[main]\nserver_urls = https://user:secret@a\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, check_files=False)
    assert "secret" not in str(caught.value)
