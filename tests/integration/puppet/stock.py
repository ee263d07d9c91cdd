"""Puppet with the stock PuppetDB terminus, as several suites of Debian have it, each on its suite's own Ruby.

The one of this machine's suite is installed. The others are unpacked into the cache, once per machine, and run where
they lie: a launcher starts the suite's Ruby with the suite's libraries, and nothing else can be loaded.

`python -m tests.integration.puppet.stock` unpacks those that this run needs, of up to 50 MB of packages each.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdbclient.errors import LabError
from pdbclient.lab.compiled import cache_directory
from tests.debian import suite
from tests.matrix import MATRIX

__all__ = ["APPLYING", "OPENVOX_9", "PUPPETS", "PUPPET_7", "PUPPET_8", "StockPuppet", "parameters"]

_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class StockPuppet:
    """One Puppet with one terminus.

    `packages` come with all that they need, `beside` alone: Debian's terminus for OpenVox 9 asks for an older Puppet.
    """

    name: str
    version: str
    terminus: str
    suite: str
    packages: tuple[str, ...]
    beside: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether it is the one that this machine's own packages bring."""
        return platform.freedesktop_os_release().get("VERSION_CODENAME") == self.suite

    @property
    def major(self) -> int:
        """For example 8."""
        return int(self.version.partition(".")[0])

    @property
    def vendor_modules(self) -> Path:
        """The modules that come with it; not every package has any."""
        root = Path("/") if self.installed else self._tree
        return root / "usr/share/puppet/vendor_modules"

    def environment(self) -> Mapping[str, str]:
        """The environment in which `ruby` and `puppet` are this Puppet's. Raises `LabError` when it cannot be had."""
        if self.installed:
            return os.environ
        self.make()
        return {**os.environ, "PATH": f"{self._tree / 'launch'}{os.pathsep}{os.environ['PATH']}"}

    def ruby(self, *argv: object, env: Mapping[str, str] | None = None) -> None:
        """Run Ruby to its end, with `env` added to the environment; fails with what it said when it fails."""
        done = subprocess.run(
            ["ruby", *map(str, argv)],
            env={**self.environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        said = f"{done.stderr[:1500]} [...] {done.stderr[-1500:]}" if len(done.stderr) > 3000 else done.stderr
        assert done.returncode == 0, f"{self.name} with terminus {self.terminus}: {said}"

    def make(self) -> None:
        """Unpack it unless it is there; one process at a time does. Raises `LabError`."""
        if self.installed:
            return
        target = self._tree
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(target.with_name(f"{target.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".stock-") as name:
                tree = Path(name, "tree")
                tree.mkdir()
                self._unpack(tree)
                _write_launchers(tree)
                tree.rename(target)

    def _unpack(self, tree: Path) -> None:
        with suite(self.suite) as source:
            needed = [file.partition("_")[0] for file in source.needed(*self.packages)]
            source.unpack([*needed, *self.beside], tree)
        # A Puppet that is a gem looks for the terminus's function where it lies itself, and nowhere else.
        for functions in tree.glob("usr/share/rubygems-integration/all/gems/*/lib/puppet/functions"):
            for file in tree.glob("usr/lib/ruby/vendor_ruby/puppet/functions/puppetdb_*.rb"):
                shutil.copy(file, functions)

    @property
    def _tree(self) -> Path:
        return cache_directory() / f"stock-{self.name}"


PUPPET_7 = StockPuppet("puppet-7", "7.23", "7.12.1", "bookworm", ("puppet-agent", "puppet-terminus-puppetdb"))
PUPPET_8 = StockPuppet("puppet-8", "8.10", "8.4.1", "trixie", ("puppet-agent", "puppet-terminus-puppetdb"))
OPENVOX_9 = StockPuppet("openvox-9", "9.0", "8.8.1", "sid", ("openvox-agent",), ("puppet-terminus-puppetdb",))

PUPPETS = (PUPPET_7, PUPPET_8, OPENVOX_9) if MATRIX else (PUPPET_7, PUPPET_8)
"""Those that this run of the tests has: OpenVox 9 only in the matrix."""
APPLYING = (None, *(stock for stock in PUPPETS if MATRIX and not stock.installed))
"""Those that run `puppet apply`: the installed one, whichever it is, and the others only in the matrix."""


def parameters(puppets: Iterable[StockPuppet | None] = PUPPETS) -> Iterator[object]:
    """These Puppets as parameters of a fixture."""
    for stock in puppets:
        yield pytest.param(stock, id=stock.name if stock else "installed")


_RUBY = """\
#!/bin/sh
# This tree's Ruby, with this tree's libraries, gems and code, and no other.
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
export GEM_HOME="$tree/launch/gems"
export GEM_PATH="{gems}"
export RUBYLIB="{code}"
exec "$tree/{loader}" --library-path "{libraries}" "$tree/{ruby}" -r "$tree/launch/only.rb" "$@"
"""
_PUPPET = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/ruby" "$here/../usr/bin/puppet" "$@"
"""
_ONLY = """\
# What Ruby would look up on the machine itself.
tree = File.dirname(__dir__)
$LOAD_PATH.select! { |path| path.start_with?("#{tree}/") }
"""


def _write_launchers(tree: Path) -> None:
    (ruby,) = (path.relative_to(tree) for path in tree.glob("usr/bin/ruby[0-9]*"))
    version = f"{ruby.name.removeprefix('ruby')}.0"
    (native,) = (path.relative_to(tree) for path in tree.glob(f"usr/lib/*-linux-gnu*/ruby/{version}"))
    libraries, plain, triple = native.parents[1], Path("usr/lib/ruby"), native.parents[1].name
    loader = next(path.relative_to(tree) for path in tree.rglob("ld-linux*.so.*") if not path.is_symlink())
    code = [
        *(plain / "vendor_ruby" / version, libraries / "ruby/vendor_ruby" / version, plain / "vendor_ruby"),
        *(plain / version, native),
    ]
    integration = Path("usr/share/rubygems-integration")
    gems = [
        *(integration / "all", integration / version, libraries / "rubygems-integration" / version),
        *(plain / "gems" / version, libraries / "ruby/gems" / version),
    ]
    places = {
        "gems": _path(tree, gems),
        "code": _path(tree, code),
        "loader": loader,
        "libraries": _path(tree, [libraries, Path("lib", triple)]),  # Debian 12 has some in /lib
        "ruby": ruby,
    }
    launch = tree / "launch"
    launch.mkdir()
    (launch / "only.rb").write_text(_ONLY)
    for name, text in (("ruby", _RUBY.format(**places)), ("puppet", _PUPPET)):
        (launch / name).write_text(text)
        (launch / name).chmod(0o755)
    tree.chmod(0o755)


def _path(tree: Path, directories: list[Path]) -> str:
    return os.pathsep.join(f"$tree/{path}" for path in directories if (tree / path).is_dir())


if __name__ == "__main__":
    failed = False
    for each in PUPPETS:
        try:
            each.make()
        except (LabError, OSError) as error:
            failed = True
            print(f"{each.name} cannot be had, and the tests that need it will fail: {error}", file=sys.stderr)
    sys.exit(failed)
