"""Who may import whom. The layers are what makes the package readable: this test holds them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import pdbclient

ROOT = Path(pdbclient.__file__).parent

ERRORS, MODEL, CONFIG, WIRE = "errors", "config.model", "config", "wire"
OUTAGE, OUTCOME, BREAKER, ROUTE, STALENESS, STREAM, STATUS = (
    "http.outage",
    "http.outcome",
    "http.breaker",
    "http.route",
    "http.staleness",
    "http.stream",
    "http.status",
)
HTTP, CLIENT, SYNC, OBSERVE, LAB = "http", "client", "sync", "observe", "lab"
TERMINUS, GATEWAY, JOURNAL, LOCK, LOOPBACK = "terminus", "gateway", "journal", "lock", "loopback"
DATABASE, SCHEMA = "journal.store.database", "journal.store.schema"

# Module or package -> what of the package it may import, besides itself. The longest match decides; a module
# without a match has no place in the architecture yet.
MAY_IMPORT: dict[str, set[str]] = {
    "": {CLIENT, CONFIG, ERRORS, WIRE},
    "__main__": {"cli"},
    ERRORS: set(),
    CONFIG: {ERRORS},
    WIRE: {ERRORS},
    HTTP: set(),
    OUTCOME: {ERRORS, MODEL},
    OUTAGE: {OUTCOME},
    BREAKER: {OUTCOME},
    ROUTE: {MODEL},
    STALENESS: {MODEL, WIRE},
    STREAM: set(),
    "http.tls": {ERRORS, MODEL},
    "http.tls_check": {ERRORS, MODEL},
    "http.tls_dates": {MODEL},
    "http.json_completeness": {STREAM},
    STATUS: set(),
    # From the wait of one socket up to what one server is asked.
    "http.worker": set(),
    "http.places": set(),
    "http.resolver": set(),
    "http.pulse": {ERRORS, OUTCOME, "http.worker"},
    "http.via": set(),
    "http.connection": {"http.pulse", "http.resolver", "http.via"},
    "http.blame": {ERRORS, MODEL, OUTCOME, "http.connection", "http.tls_check"},
    "http.sender": {
        *(ERRORS, MODEL, OUTCOME, STATUS, STREAM),
        *("http.blame", "http.connection", "http.places", "http.pulse", "http.tls"),
    },
    "http.session": {ERRORS, MODEL, WIRE, OUTCOME, STREAM, "http.json_completeness", "http.sender"},
    "http.registry": {MODEL, WIRE, OUTAGE, OUTCOME, BREAKER, ROUTE, STALENESS},
    "http.presence": {ERRORS, WIRE, STATUS, "http.session"},
    "http.probe": {ERRORS, MODEL, OUTCOME, "http.registry", "http.session", "http.presence", "http.worker"},
    "http.failover": {
        *(ERRORS, MODEL, WIRE, OUTCOME, STALENESS),
        *("http.registry", "http.probe", "http.sender", "http.session", "http.tls"),
    },
    LOCK: set(),
    LOOPBACK: set(),
    JOURNAL: {ERRORS, CONFIG, WIRE, HTTP},
    # Where it is, knows nothing of servers; what is known of entries, nothing of a database in particular.
    "journal.model": {WIRE},
    "journal.rounds": {ERRORS},
    "journal.place": set(),
    "journal.store": set(),
    "journal.store.lock_owner": set(),
    "journal.store.packing": {ERRORS, WIRE},
    SCHEMA: set(),
    DATABASE: {ERRORS},
    "journal.ledger": {STALENESS, WIRE, DATABASE, "journal.model", "journal.store.packing"},
    "journal.journal": {
        *(ERRORS, "config.journal_place", WIRE),
        *("journal.model", "journal.place", "journal.store", "journal.ledger"),
    },
    "journal.work": {ERRORS, CONFIG, WIRE, HTTP, JOURNAL},
    "journal.work.age": set(),
    "journal.store.file": {ERRORS, SCHEMA},
    "journal.store.sqlite": {ERRORS, LOCK, DATABASE, SCHEMA, "journal.store.file"},
    "journal.store.watchdog": {"journal.rounds"},
    "journal.store.connection": {"journal.store.watchdog"},
    "journal.store.postgresql": {
        ERRORS,
        "config.journal_place",
        DATABASE,
        SCHEMA,
        "journal.store.connection",
        "journal.store.watchdog",
    },
    "journal.store.committer": {ERRORS, DATABASE, "journal.rounds"},
    CLIENT: {ERRORS, CONFIG, WIRE, HTTP, JOURNAL},
    SYNC: set(),
    "sync.policy": {ERRORS, MODEL, WIRE},
    "sync.state": {ERRORS, MODEL, WIRE, LOCK, "sync.policy"},
    "sync.inventory": {ERRORS, MODEL, WIRE, OUTCOME, "sync.policy"},
    # The reconciler talks to two servers on purpose, so it takes single sessions, without failover.
    "sync.run": {
        *(ERRORS, MODEL, WIRE, "http.session", STATUS, "http.resolver", LOOPBACK),
        *("sync.policy", "sync.state", "sync.inventory"),
    },
    "sync.service": {
        *(ERRORS, CONFIG, "http.tls_dates", OBSERVE),
        *("sync.policy", "sync.state", "sync.inventory", "sync.run"),
    },
    TERMINUS: {ERRORS, WIRE},
    # The gateway takes the layer itself: a client's soft_write_failure, say, is the terminus's to decide.
    GATEWAY: {ERRORS, CONFIG, WIRE, HTTP, TERMINUS, JOURNAL, LOOPBACK, OBSERVE},
    OBSERVE: {ERRORS, LOOPBACK},
    "observe.page": {ERRORS, "observe.terminal"},
    LAB: {ERRORS, CONFIG},
    "puppet_setup": {ERRORS, CONFIG},
    "doctor": {ERRORS, CONFIG, WIRE, HTTP, SYNC, JOURNAL, GATEWAY, "puppet_setup"},
    "demo": {ERRORS, CONFIG, WIRE, HTTP, CLIENT, SYNC, OBSERVE, LAB},
    "cli": {
        *(ERRORS, CONFIG, WIRE, HTTP, CLIENT, SYNC, TERMINUS, GATEWAY, JOURNAL, OBSERVE, LAB),
        *("demo", "doctor", "puppet_setup"),
    },
}

PURE = {
    *(ERRORS, MODEL, WIRE, TERMINUS, OUTAGE, OUTCOME, BREAKER, ROUTE, STALENESS, STREAM, STATUS, LOOPBACK),
    *(
        "http.json_completeness",
        "sync.policy",
        "gateway.addresses",
        "gateway.compression",
        "gateway.intake",
        "doctor.checks",
        "doctor.kinds",
        "doctor.model",
        "journal.work.age",
        "observe.page",
        "observe.terminal",
        "journal.model",
        "journal.store.packing",
        SCHEMA,
    ),
}
"""Policy and formats: no I/O, no clock, no chance, no logger; what they need are arguments."""

IMPURE = {
    *("socket", "ssl", "select", "asyncio", "http", "urllib", "requests", "urllib3"),
    *("time", "random", "secrets", "uuid", "threading", "concurrent", "multiprocessing", "signal"),
    *("os", "io", "shutil", "subprocess", "tempfile", "sqlite3", "psycopg", "logging", "tenacity"),
}
CLOCKS = {"now", "utcnow", "today"}


def modules() -> dict[str, Path]:
    """Every module by its name below the package: `""` is the package itself."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()


def rule_of(module: str) -> str | None:
    """The entry of `MAY_IMPORT` for a module: its own, or that of the nearest package around it."""
    name = module
    while name not in MAY_IMPORT or (name == "" != module):
        if "." not in name:
            return None
        name = name.rpartition(".")[0]
    return name


def within(module: str, package: str) -> bool:
    return module == package or (package != "" and module.startswith(f"{package}."))


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Absolute names of what a file imports: modules, and for `from x import y` also `x.y`. Not for types only."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif not (at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)


def own_imports(path: Path, *, at_import_time: bool = False) -> set[str]:
    """The modules of this package that a file imports."""
    names = {
        n.removeprefix("pdbclient").removeprefix(".")
        for n in imports(path, at_import_time=at_import_time)
        if is_own(n)
    }
    return {name for name in names if name in MODULES}


def is_own(name: str) -> bool:
    return name == "pdbclient" or name.startswith("pdbclient.")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_place_and_imports_only_what_lies_below_it(module: str) -> None:
    rule = rule_of(module)
    assert rule is not None, f"no rule for pdbclient.{module}: give it a place in MAY_IMPORT"
    allowed = MAY_IMPORT[rule]
    for name in own_imports(MODULES[module]):
        own_package = within(name, rule) and rule != ""
        around = within(module, name)  # `from pdbclient.http import breaker` names its own package
        assert own_package or around or any(within(name, other) for other in allowed), (
            f"pdbclient.{module} imports pdbclient.{name}, which is not below it"
        )


def test_the_rules_name_only_what_exists() -> None:
    named = set(MAY_IMPORT) | {name for allowed in MAY_IMPORT.values() for name in allowed} | PURE
    assert named - set(MODULES) == set()


def pure_modules() -> list[str]:
    return [module for module in MODULES if any(within(module, package) for package in PURE)]


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_import_nothing_that_acts(module: str) -> None:
    named = {name for name in imports(MODULES[module]) if not is_own(name) and not name.startswith("urllib.parse")}
    outside = {name.partition(".")[0] for name in named}
    assert outside & IMPURE == set()


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_import_only_pure_ones(module: str) -> None:
    """What acts does so through them as well."""
    assert own_imports(MODULES[module]) <= set(pure_modules())


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_read_no_clock_and_no_file(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                assert node.func.attr not in CLOCKS, f"line {node.lineno}: {ast.unparse(node)}"
            elif isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "print", "input"}, f"line {node.lineno}: {ast.unparse(node)}"


def test_there_is_no_import_cycle() -> None:
    """At import time: a module's own imports, and the `__init__` of every package that they lie in."""
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        graph[module] = set()
        for name in own_imports(path, at_import_time=True):
            packages = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 2)}
            graph[module] |= {p for p in packages if p in MODULES and not within(module, p)}
    order: list[str] = []
    visiting: list[str] = []

    def visit(module: str) -> None:
        assert module not in visiting, f"a cycle: {' -> '.join([*visiting[visiting.index(module) :], module])}"
        if module in order:
            return
        visiting.append(module)
        for name in sorted(graph[module]):
            visit(name)
        visiting.pop()
        order.append(module)

    for module in graph:
        visit(module)
    assert len(order) == len(MODULES)


@pytest.mark.parametrize("word", ["util", "utils", "helper", "helpers", "manager", "common", "misc"])
def test_no_module_is_named_after_nothing(word: str) -> None:
    assert not [module for module in MODULES if word in module.split(".")]


def test_no_two_files_of_tests_and_no_two_classes_in_them_share_a_name() -> None:
    """`pytest -k NAME`, a traceback's last line and a reader's search are to find one thing."""
    places = defaultdict(list)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        if path.name.startswith("test_"):
            places[path.name].append(path)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("module", MODULES)
def test_a_file_fits_in_the_head(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400
