"""The door to `certificates`, the only part of the package that needs `cryptography`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pdbclient.errors import LabError

if TYPE_CHECKING:
    from pdbclient.lab.certificates import CertificateAuthority

__all__ = ["certificate_authority"]


def certificate_authority(ssl_dir: Path, name: str) -> CertificateAuthority:
    """The CA called `name` in `ssl_dir`; `LabError` when the package that makes certificates is missing."""
    try:
        from pdbclient.lab.certificates import CertificateAuthority
    except ModuleNotFoundError as error:
        raise LabError(
            f"the lab makes its own certificates and needs {error.name} for it: pip install 'pdbclient[lab]'"
        ) from error
    return CertificateAuthority(ssl_dir, name)
