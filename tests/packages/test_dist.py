"""What `make dist` makes: the wheel and the sdist have all that they name, as a user of them finds it."""

from __future__ import annotations

import re
import tarfile
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .checkout import ROOT, made

SHARE = "share/pdbclient"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("checkout") / "pdbclient")


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> zipfile.ZipFile:
    (path,) = (checkout / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> set[str]:
    """The names of its files, without the directory that they all are in."""
    (path,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def test_the_wheel_installs_the_examples_the_man_page_and_the_completions(wheel: zipfile.ZipFile) -> None:
    """Below `share`, where a virtual environment or a distribution's package has them."""
    data = {name.partition(".data/data/")[2] for name in wheel.namelist()}
    examples = ROOT / "puppet_conf_examples"
    assert {f"{SHARE}/{file.relative_to(ROOT)}" for file in examples.rglob("*") if file.is_file()} <= data
    assert f"{SHARE}/puppet_conf_examples/pdbclient-gateway.service" in data
    assert {
        "share/man/man1/pdbclient.1",
        "share/bash-completion/completions/pdbclient",
        "share/zsh/site-functions/_pdbclient",
    } <= data


def test_every_example_that_is_named_anywhere_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """By the README, the documentation, the command line's help."""
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("pdbclient/**/*.py")]
    named = {path for file in files for path in re.findall(r"puppet_conf_examples(?:/[\w.-]*\w)+", file.read_text())}
    assert "puppet_conf_examples/logging.yaml" in named
    names = "\n".join(wheel.namelist())
    assert [path for path in sorted(named) if f"{SHARE}/{path}" not in names] == []


def test_the_sdist_has_the_tests_and_all_that_make_needs(checkout: Path, sdist: set[str]) -> None:
    """So that who packages it can test it, and build what is built here."""
    top = {file.name for file in checkout.iterdir() if file.is_file()}
    assert {"CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "setup.cfg", "setup.py"} <= top
    assert top | {".ci/run"} <= sdist
    for directory in ("pdbclient", "tests", ".ci", "puppet_conf_examples", "share", "docs"):
        files = {str(file.relative_to(checkout)) for file in (checkout / directory).rglob("*") if file.is_file()}
        assert files, directory
        assert {name for name in files - sdist if "__pycache__" not in name} == set()


def test_the_metadata_say_where_the_project_is_and_what_it_runs_on(wheel: zipfile.ZipFile) -> None:
    metadata = _metadata(wheel)
    labels = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    assert labels >= {"Documentation", "Changelog", "Source", "Issues"}
    classifiers = metadata.get_all("Classifier", [])
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers)


def test_the_libraries_of_the_debian_package_are_what_the_wheel_asks_for() -> None:
    """With one version each, and its hashes."""
    lines = re.findall(r"^(\S+)==(\S+) \\$", (ROOT / ".ci/debian/requirements.txt").read_text(), re.M)
    pinned = {canonicalize_name(name): version for name, version in lines}
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["postgresql"]
    for requirement in map(Requirement, wanted.split()):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def _metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())
