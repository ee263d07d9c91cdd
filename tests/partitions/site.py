"""What a run needs of a world: `world.World` is one, and in the unit tests a small fake."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pdbclient.config.model import TlsFiles

__all__ = ["HostLike", "NemesisLike", "UsageLike", "WorldLike"]


class HostLike(Protocol):
    """A host by its short name."""

    @property
    def name(self) -> str: ...


class UsageLike(Protocol):
    """What a daemon has of its machine."""

    @property
    def descriptors(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def megabytes(self) -> float: ...


class WorldLike(Protocol):
    """Hosts, and what is on them; `world.World` says what each of these does."""

    @property
    def puppets(self) -> Sequence[Any]: ...

    @property
    def databases(self) -> Sequence[Any]: ...

    def urls(self, puppet: Any) -> Sequence[str]: ...

    def tls(self, puppet: Any) -> TlsFiles: ...

    def url(self, database: Any) -> str: ...

    def spawn(self, host: Any, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]: ...

    def sql(self, host: Any, statement: str, /) -> Sequence[tuple[Any, ...]]: ...

    def heal(self, seconds: float) -> None: ...

    def settle(self, database: Any, seconds: float) -> None: ...

    def passes(self, database: Any) -> int: ...

    def logs(self) -> Mapping[str, Path]: ...

    def failures(self) -> Mapping[str, Sequence[int]]: ...

    def journal(self, puppet: Any) -> str | None: ...

    def usage(self) -> Mapping[str, UsageLike]: ...


class NemesisLike(Protocol):
    """A fault that can be begun and ended."""

    @property
    def name(self) -> str: ...

    @property
    def lasting(self) -> bool: ...

    @property
    def targets(self) -> Callable[[Any], Sequence[str]]: ...

    @property
    def begin(self) -> Callable[[Any, str], Callable[[], None]]: ...
