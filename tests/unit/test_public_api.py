"""What a user may rely on: `__all__`, docstrings, types, the version."""

from __future__ import annotations

import configparser
import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import pdbclient

REPOSITORY = Path(__file__).parent.parent.parent
MODULES = ["pdbclient", *(m.name for m in pkgutil.walk_packages(pdbclient.__path__, "pdbclient."))]
PUBLIC = [m for m in MODULES if not any(part.startswith("_") for part in m.split("."))]


@pytest.fixture(params=PUBLIC)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def sorted_as_ruff_does(names: list[str]) -> list[str]:
    """CONSTANTS, then Classes, then functions."""
    return sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))


def test_a_public_module_says_what_is_public_in_order(module: ModuleType) -> None:
    if hasattr(module, "__path__") and not hasattr(module, "__all__"):
        # A package whose modules are imported one by one.
        assert not [n for n, v in vars(module).items() if not n.startswith("_") and not isinstance(v, ModuleType)]
        return
    names = list(module.__all__)
    assert names == sorted_as_ruff_does(names)
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(module, name), f"{module.__name__}.{name} is promised and not there"


def test_what_is_public_is_explained(module: ModuleType) -> None:
    assert module.__doc__, f"{module.__name__} has no docstring"
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if inspect.isfunction(thing):
            assert thing.__doc__, f"{module.__name__}.{name} has no docstring"
        elif inspect.isclass(thing):
            assert_class_is_explained(module, thing)


def assert_class_is_explained(module: ModuleType, kind: type) -> None:
    where = f"{module.__name__}.{kind.__name__}"
    # A dataclass without a docstring gets its signature for one.
    assert kind.__doc__, f"{where} has no docstring"
    assert not kind.__doc__.startswith(f"{kind.__name__}("), f"{where} has no docstring"
    if getattr(kind, "_is_protocol", False):
        return  # its own docstring explains what it asks for
    for name, member in vars(kind).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        function = function.fget if isinstance(function, property) else function
        if inspect.isfunction(function) and not name.startswith("_") and own(function, kind):
            assert function.__doc__, f"{where}.{name} has no docstring"


def own(function: object, kind: type) -> bool:
    """Written in this package, and not the override of something that is explained elsewhere."""
    inherited = any(hasattr(base, getattr(function, "__name__", "")) for base in kind.__mro__[1:])
    return not inherited and getattr(function, "__module__", "").startswith("pdbclient")


def test_the_package_is_typed_and_says_so() -> None:
    assert (Path(pdbclient.__file__).parent / "py.typed").is_file()
    metadata = setup_cfg()
    assert metadata["options.package_data"]["pdbclient"] == "py.typed"


def test_the_version_is_the_one_of_setup_cfg() -> None:
    assert version("pdbclient") == setup_cfg()["metadata"]["version"]


def test_the_command_is_where_setup_cfg_says() -> None:
    name, _, target = setup_cfg()["options.entry_points"]["console_scripts"].strip().partition(" = ")
    path, _, function = target.partition(":")
    assert name == "pdbclient"
    assert callable(getattr(importlib.import_module(path), function))


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def test_importing_the_library_brings_neither_the_lab_nor_the_command_line() -> None:
    """A program pays for what it uses; `cryptography` belongs to an extra and may not be there."""
    names = "pdbclient.lab pdbclient.cli pdbclient.sync rich cryptography yaml"
    code = f"import pdbclient, sys; print([n for n in {names.split()!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_a_pdb_error() -> None:
    from pdbclient import errors

    kinds = [getattr(errors, name) for name in errors.__all__ if name != "Problem"]
    assert all(issubclass(kind, errors.PdbError) for kind in kinds)
    assert {kind.__module__ for kind in kinds} == {"pdbclient.errors"}
