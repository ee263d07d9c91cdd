"""The documentation says what is so: commands and configurations that are right, links that lead somewhere."""

from __future__ import annotations

import argparse
import ast
import configparser
import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pdbclient.cli.main import make_parser
from pdbclient.config import load_config, load_sync_config, settings
from pdbclient.config.settings import Setting
from pdbclient.doctor.kinds import KINDS
from tests.documentation import HOST_PAGES, PAGES, ROOT, RUNS, Block, blocks, pdbclient_commands, spans
from tools import reference

SMALL = 8 * 1024


def each(language: str) -> pytest.MarkDecorator:
    found = blocks(language)
    assert found
    return pytest.mark.parametrize("block", found, ids=map(str, found))


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    """Broken links and anchors, pages without a place, unknown names of what is generated: all are warnings."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--config-file",
        ".ci/mkdocs.yml",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    environment = {"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    settings_page = (tmp_path / "reference/settings.html").read_text()
    assert "<code>stale_exported_budget</code>" in settings_page
    assert "https://fonts" not in settings_page


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= SMALL
    assert {"make demo", "make test"} <= set(re.findall(r"^    (make \w+)", text, re.M))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_from_outside_the_pages_lead_to_files_and_headings(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / name).read_text()):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, target


def test_every_block_of_commands_says_who_runs_it() -> None:
    silent = [str(block) for block in blocks() if block.language in ("sh", "python") and block.run not in RUNS]
    assert silent == []


def test_every_page_with_commands_for_a_host_is_on_the_path_of_a_new_administrator() -> None:
    assert {block.page for block in blocks("sh", "host")} == set(HOST_PAGES)


@each("sh")
def test_a_block_of_commands_is_a_shells(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")


@each("sh")
def test_every_command_of_a_block_is_one_with_its_options(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in pdbclient_commands(block):
        try:
            make_parser().parse_args(["1" if word == "ID" else word for word in argv])
        except SystemExit as end:
            if end.code == 0:  # --version
                continue
            pytest.fail(f"{block}: pdbclient {shlex.join(argv)}: {capsys.readouterr().err}")


def test_every_command_in_the_text_is_one() -> None:
    for page, span in spans():
        if span.startswith("pdbclient "):
            parser = _parser_of(span.split()[1:], page)
            for option in re.findall(r"--[a-z][a-z-]+", span):
                assert option in parser._option_string_actions, f"{page}: {span}"


def _parser_of(words: list[str], page: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = make_parser()
    for word in words:
        groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not groups:
            break
        names = [name for name in re.split(r"[|…]", word) if name]
        if not names or word.startswith(("-", "COMMAND")):
            break
        assert names[0] in groups[0].choices, f"{page}: pdbclient {' '.join(words)}"
        parser = groups[0].choices[names[0]]
    return parser


@each("ini")
def test_a_block_of_ini_is_a_configuration(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "some.conf"
    file.write_text(block.text)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block.text)
    if "sync" in parser:
        load_sync_config(file, check_files=False)
    elif "pdbclient" in parser or parser.has_option("main", "server_urls"):
        load_config(file, check_files=False)
    else:
        assert set(parser.sections()) <= {"puppetdb", "Service"}


@each("hocon")
def test_a_block_of_hocon_is_a_configuration(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "sync.conf"
    file.write_text(block.text)
    load_sync_config(file, check_files=False)


@each("yaml")
def test_a_block_of_yaml_is_some(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict | list)


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([\w/-]+):", (ROOT / "Makefile").read_text(), re.M))
    for block in blocks("sh", "make"):
        assert set(re.findall(r"^make ([\w/-]+)", block.text, re.M)) <= targets, block
    for page, span in spans():
        if found := re.fullmatch(r"make ([\w/-]+)", span):
            assert found[1] in targets, f"{page}: {span}"


def test_the_last_line_of_the_demo_has_the_keys_that_it_has() -> None:
    from dataclasses import fields

    from pdbclient.demo import Outcome

    (block,) = (block for block in blocks("json") if "second_pass_transferred" in block.text)
    assert list(json.loads(block.text)) == [field.name for field in fields(Outcome)]


@pytest.mark.parametrize("table", [settings.STOCK, settings.OWN, settings.SYNC], ids=["main", "pdbclient", "sync"])
def test_every_setting_says_what_it_means(table: dict[str, Setting]) -> None:
    assert [name for name, setting in table.items() if len(setting.meaning.split()) < 2 or name != setting.name] == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (3, "3s"), (90, "90s"), (300, "5m"), (5400, "90m"), (14 * 86400, "14d")]
)
def test_a_duration_is_written_as_in_a_setting(seconds: float, text: str) -> None:
    assert reference.duration(seconds) == text


def test_the_reference_has_every_command_and_setting() -> None:
    page = "".join(made() for name, made in reference.GENERATED.items() if name not in ("alert", "finding"))
    for name in [*settings.CLIENT, *settings.SYNC]:
        assert f"| `{name}` |" in page
    assert page.count("usage: pdbclient ") == len(list(reference.leaves(make_parser())))


def test_a_page_that_wants_what_is_not_generated_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        reference.expand("text\n<!-- generated: nothing -->\n")


def test_every_page_has_one_title() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        assert len(re.findall(r"^# ", text, re.M)) == 1, page


RUNBOOKS = ROOT / "docs/runbooks"


@pytest.mark.parametrize("code", KINDS)
def test_every_finding_of_doctor_has_a_runbook(code: str) -> None:
    text = (RUNBOOKS / f"{code}.md").read_text()
    assert f"<!-- generated: finding {code} -->" in text
    assert_complete(text)


@pytest.mark.parametrize("name", reference.alerts())
def test_every_alert_has_the_runbook_that_it_names(name: str) -> None:
    page = reference.alerts()[name]["annotations"]["runbook"]
    text = (ROOT / "docs" / page).with_suffix(".md").read_text()
    assert f"<!-- generated: alert {name} -->" in text
    assert_complete(text)


def assert_complete(runbook: str) -> None:
    parts = re.split(r"^## (.+)$", runbook, flags=re.M)
    assert parts[1::2] == ["What it means", "Look", "Mend"]
    assert all(len(part.split()) >= 1 for part in parts[2::2])


def test_no_runbook_is_about_nothing() -> None:
    marked = {path for path in RUNBOOKS.glob("*.md") if "<!-- generated: " in path.read_text()}
    assert set(RUNBOOKS.glob("*.md")) == marked


OPENSSL = {"certificate is not yet valid"}
"""What the library says, and we repeat."""


def test_what_the_runbooks_quote_the_program_says() -> None:
    """Of several words in italics; one alone is only what to look for."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "pdbclient").rglob("*.py")]
    said = {text for tree in trees for node in ast.walk(tree) if (text := _text(node))} | OPENSSL
    said |= {os.strerror(number) for number in errno.errorcode}
    quoted = {(path.name, " ".join(quote.split())) for path in RUNBOOKS.glob("*.md") for quote in _quotes(path)}
    assert {page for page, _ in quoted} >= {"configuration.md", "server-certificate.md"}
    assert {(page, quote) for page, quote in quoted if not any(quote in text for text in said)} == set()


def _text(node: ast.AST) -> str:
    """A string of the code; what is filled in is left out."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "…".join(each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _quotes(page: Path) -> list[str]:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    return [quote for quote in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text) if len(quote.split()) > 2]


def test_a_page_takes_away_what_it_brought() -> None:
    """What is linked or copied outside of /opt is removed, and can be made once more over what is there."""
    making, removing = (_section("docs/install/other-systems.md", name) for name in ("The environment", "Remove"))
    making += _section("docs/install/other-systems.md", "User, directories, units")
    links = re.findall(r"^ln (-\w+) (\S+) (\S+)$", making, re.M)
    assert len(links) == 4
    for options, source, target in links:
        assert "f" in options, source
        made = f"{target}{Path(source).name}" if target.endswith("/") else target
        assert made in removing.split(), made


def _section(page: str, title: str) -> str:
    (text,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", (ROOT / page).read_text(), re.M | re.S)
    return str(text)


def test_pages_that_the_code_and_the_examples_name_are_there() -> None:
    """Comments of units and configurations send readers to them."""
    for directory in ("pdbclient", "puppet_conf_examples", ".ci", "tests"):
        for path in (ROOT / directory).rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".gz"):
                for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(errors="replace")):
                    assert (ROOT / page).is_file(), f"{path.relative_to(ROOT)}: {page}"
