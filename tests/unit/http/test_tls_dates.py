"""When certificates and revocation lists end, read from the files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pdbclient.config.model import TlsFiles
from pdbclient.http.tls_dates import earliest, expiries
from pdbclient.lab.certificates import CertificateAuthority


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    authority = CertificateAuthority(tmp_path_factory.mktemp("pki"), "a CA")
    authority.create()
    authority.issue("late", days=-3)
    return authority.issue("host", days=20)


def days(at: datetime | None) -> float:
    assert at is not None
    return (at - datetime.now(UTC)) / timedelta(days=1)


def test_each_certificate_and_list_has_its_end(issued: TlsFiles) -> None:
    own, authority, revoked = expiries(issued)
    assert (own.setting, own.path, own.name) == ("ssl_cert", issued.cert, "CN=host")
    assert days(own.ends) == pytest.approx(20, abs=0.1)
    assert (authority.setting, authority.name) == ("ssl_ca_cert", "CN=a CA")
    assert (revoked.setting, revoked.path, revoked.name) == ("ssl_crl", issued.crl, "CN=a CA")
    assert days(authority.ends) > 300
    assert days(revoked.ends) > 300


def test_the_first_of_several_in_one_file_counts_although_it_is_over(issued: TlsFiles, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    late = issued.ca.with_name("late.pem")
    bundle.write_bytes(issued.ca.read_bytes() + late.read_bytes())
    ends = earliest(replace(issued, ca=bundle))
    assert sorted(ends) == ["ssl_ca_cert", "ssl_cert", "ssl_crl"]
    assert days(datetime.fromtimestamp(ends["ssl_ca_cert"], UTC)) == pytest.approx(-3, abs=0.1)


def test_a_list_that_is_not_used_and_a_certificate_that_is_not_there_do_not_end(issued: TlsFiles) -> None:
    assert [each.setting for each in expiries(replace(issued, cert=None, revocation="false"))] == ["ssl_ca_cert"]


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read: No such file or directory"), (b"nothing", "cannot be looked into")]
)
def test_a_file_that_tells_nothing_says_why_and_ends_at_no_time(
    issued: TlsFiles, tmp_path: Path, text: bytes | None, why: str
) -> None:
    path = tmp_path / "cert.pem"
    if text is not None:
        path.write_bytes(text)
    spoiled = replace(issued, cert=path)
    (found,) = [each for each in expiries(spoiled) if each.setting == "ssl_cert"]
    assert found.ends is None
    assert why in (found.error or "")
    assert sorted(earliest(spoiled)) == ["ssl_ca_cert", "ssl_crl"]
