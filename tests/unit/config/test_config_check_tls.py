"""`pdbclient config check` and the TLS material: it loads what the first use loads, and tells what will fail soon."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from pdbclient import Client
from pdbclient.cli.main import main
from pdbclient.config import load_config, load_sync_config
from pdbclient.config.puppetdb_conf import read_puppetdb
from pdbclient.errors import ConfigError
from pdbclient.gateway.server import Server
from pdbclient.lab.ports import free_port
from tests.faults.chain import Chain, pem

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


class ConfiguredHost:
    """A host with Puppet's files, which a test may spoil, and with both configurations."""

    def __init__(self, chain: Chain, directory: Path) -> None:
        self.directory, self.chain = directory, chain
        lists = (chain.revocations("root"), chain.revocations("intermediate"))
        self.tls = chain.ssldir(directory / "ssl", "server", *lists)
        self.puppet()
        self.conf = self.gateway("")
        self.sync = directory / "sync.conf"
        self.sync.write_text(
            'sync: { local_url: "https://me", remotes: [{server_url: "https://b", interval: 5m}] }\n'
        )

    def puppet(self, *lines: str) -> None:
        text = "\n".join(["[main]", "certname = server", f"ssldir = {self.directory}/ssl", *lines])
        (self.directory / "puppet.conf").write_text(text)

    def gateway(self, url: str, *lines: str) -> Path:
        path = self.directory / "puppetdb.conf"
        own = [f"gateway_url = {url}"] if url else []
        urls = f"{url},https://a" if url else "https://a"
        path.write_text("\n".join(["[main]", f"server_urls = {urls}", "[pdbclient]", *own, *lines]) + "\n")
        return path

    @property
    def ca(self) -> Path:
        return self.tls.ca

    @property
    def cert(self) -> Path:
        return self.directory / "ssl/certs/server.pem"

    @property
    def key(self) -> Path:
        return self.directory / "ssl/private_keys/server.pem"

    @property
    def crl(self) -> Path:
        return self.directory / "ssl/crl.pem"


@pytest.fixture
def host(chain: Chain, tmp_path: Path) -> ConfiguredHost:
    return ConfiguredHost(chain, tmp_path)


@pytest.fixture
def check(host: ConfiguredHost, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """`config check` of puppetdb.conf, or with other options: its exit code, and what it says beside the table."""

    def run(*options: str | Path) -> tuple[int, list[str]]:
        code = main(["config", "check", *map(str, options or ("--config", host.conf))])
        return code, capsys.readouterr().err.splitlines()

    return run


Check = Callable[..., tuple[int, list[str]]]


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted(host: ConfiguredHost) -> bytes:
    key = load_pem_private_key(host.key.read_bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def packed(host: ConfiguredHost) -> bytes:
    key = load_pem_private_key(host.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(host.cert.read_bytes())
    return pkcs12.serialize_key_and_certificates(b"server", key, certificate, None, NoEncryption())


SPOILED: dict[str, tuple[str, Callable[[ConfiguredHost], bytes], str]] = {
    # The file, what is in it, and what is said.
    "another key": (
        "key",
        lambda _: key_pem(ec.generate_private_key(ec.SECP256R1())),
        "is not the key of the cert",
    ),
    "a key of another curve": (
        "key",
        lambda _: key_pem(ec.generate_private_key(ec.SECP384R1())),
        "is not the key of the cert",
    ),
    "a key of another kind": (
        "key",
        lambda _: key_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "is not the key of the cert",
    ),
    "a key of a third kind": (
        "key",
        lambda _: key_pem(ed25519.Ed25519PrivateKey.generate()),
        "is not the key of the cert",
    ),
    "an encrypted key": ("key", encrypted, "the key is encrypted"),
    "PKCS#12 for a key": ("key", packed, "not usable PEM"),
    "PKCS#12 for a certificate": ("cert", packed, "not usable PEM"),
    "an empty certificate": ("cert", lambda _: b"", "not usable PEM"),
    "a key for a certificate": ("cert", lambda host: host.key.read_bytes(), "not usable PEM"),
    "an empty list": ("crl", lambda _: b"", "not a PEM file with what belongs there"),
    "junk for a list": ("crl", lambda _: b"hello\n", "not a PEM file with what belongs there"),
    "half a list": ("crl", lambda host: host.crl.read_bytes()[:200], "not a PEM file with what belongs there"),
    "a list in DER": (
        "crl",
        lambda host: host.chain.revocations("root").public_bytes(Encoding.DER),
        "not a PEM file with what belongs there",
    ),
    "a certificate for a list": ("crl", lambda host: host.ca.read_bytes(), "has no revocation list"),
    "a strange CA among the lists": (
        "crl",
        lambda host: host.crl.read_bytes() + pem(Chain().certificates["root"]),
        "has certificates that ssl_ca_cert has not: they would be trusted",
    ),
    "junk for a CA": ("ca", lambda _: b"hello\n", "not a PEM file with what belongs there"),
    "a list for a CA": ("ca", lambda host: host.crl.read_bytes(), "has no certificate"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_the_first_use_refuses_is_refused_with_the_same_words(
    host: ConfiguredHost, check: Check, case: str
) -> None:
    """By the client, the reconciler and the gateway; in both configurations it is one problem, told once."""
    which, content, words = SPOILED[case]
    path: Path = getattr(host, which)
    path.write_bytes(content(host))
    with pytest.raises(ConfigError) as first_use:
        Client(load_config(host.conf)).close()
    (problem,) = first_use.value.problems
    assert problem.file == str(path)
    assert words in problem.why
    told = [str(problem), "1 problem: nothing of this would be used"]
    assert check() == (2, told)
    assert check("--sync", host.sync) == (2, told)
    assert check("--config", host.conf, "--sync", host.sync) == (2, told)
    assert check("--config", host.conf, "--syntax-only")[0] == 0


def test_every_file_that_is_spoiled_is_told_at_once(host: ConfiguredHost, check: Check) -> None:
    for path in (host.ca, host.key, host.crl):
        path.write_bytes(b"")
    code, told = check()
    assert code == 2
    assert [line.split(": ")[1] for line in told[:-1]] == ["ssl_ca_cert", "ssl_crl", "ssl_key"]


def test_a_list_that_is_not_read_need_not_be_one(host: ConfiguredHost, check: Check) -> None:
    host.crl.write_bytes(b"hello\n")
    host.puppet("certificate_revocation = false")
    assert check() == (0, [])


def test_a_list_with_the_ca_beside_it_is_one(host: ConfiguredHost, check: Check) -> None:
    """Puppet reads nothing but the lists of it."""
    host.crl.write_bytes(host.ca.read_bytes() + host.crl.read_bytes())
    assert check() == (0, [])
    host.ca.write_bytes(host.crl.read_bytes())
    assert check() == (0, [])


def test_what_keeps_the_gateway_from_its_start_is_refused(host: ConfiguredHost, check: Check) -> None:
    """Nobody would be let in: whoever has a certificate without a name says who may come."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "nobody")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(90))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    host.cert.write_bytes(pem(builder.sign(key, SHA256())))
    host.key.write_bytes(key_pem(key))
    host.gateway("https://localhost:8085")
    with pytest.raises(ConfigError) as first_use:
        Server.open(load_config(host.conf))
    assert check() == (2, [str(first_use.value), "1 problem: nothing of this would be used"])
    assert "set gateway_allow" in str(first_use.value)


# -- what loads, and will not do


def test_of_what_is_well_nothing_is_said(host: ConfiguredHost, check: Check) -> None:
    host.gateway("https://localhost:8085")
    assert check("--config", host.conf, "--sync", host.sync) == (0, ["puppetdb.conf:", "sync:"])


AGES: dict[str, tuple[float, float, int, str | None]] = {
    "long": (-400, 31, 0, None),
    "soon over": (-400, 29.5, 0, "expires on "),
    "almost over": (-400, 0.01, 0, "expires on "),
    "over": (-400, -1, 2, "has expired on "),
    "still to come": (2, 400, 2, "is not valid before "),
}


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("which", ["root", "intermediate", "server"])
def test_a_certificate_that_is_not_valid_is_an_error_and_a_warning_before(
    host: ConfiguredHost, check: Check, which: str, age: str
) -> None:
    """Ours, and each of the CA's above it."""
    begins, ends, expected, words = AGES[age]
    issuer, good_for = ("intermediate", "localhost") if which == "server" else ("root", None)
    certificate = host.chain.certificate(which, issuer, host=good_for, from_days=begins, days=ends)
    if which == "server":
        host.cert.write_bytes(pem(certificate))
    else:
        authorities = {name: host.chain.certificates[name] for name in ("root", "intermediate")} | {
            which: certificate
        }
        host.ca.write_bytes(pem(*authorities.values()))
    code, told = check()
    assert code == expected
    if words is None:
        assert told == []
        return
    path, setting = (host.cert, "ssl_cert") if which == "server" else (host.ca, "ssl_ca_cert")
    date = certificate.not_valid_before_utc if begins > 0 else certificate.not_valid_after_utc
    said = f"{path}: {setting}: CN={which} {words}{date:%Y-%m-%d}"
    assert told[0].startswith(said if code else f"warning: {said}")
    assert told[1:] == (["1 problem: nothing of this would be used"] if code else [])


def test_a_ca_that_was_renewed_may_have_its_expired_certificate_beside_the_new_one(
    host: ConfiguredHost, check: Check
) -> None:
    """As Puppet's own renewal leaves it for a while."""
    old = host.chain.certificate("root", "root", days=-1)
    host.ca.write_bytes(pem(old, *(host.chain.certificates[name] for name in ("root", "intermediate"))))
    code, told = check()
    assert code == 0
    assert [line.split(" has expired")[0] for line in told] == [f"warning: {host.ca}: ssl_ca_cert: CN=root"]


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(-9, 0.01, None), (-9, -1, "has expired on "), (1, 9, "is not valid before ")],
    ids=["current", "expired", "for later"],
)
@pytest.mark.parametrize("which", ["root", "intermediate"])
def test_a_list_that_is_not_current_is_an_error_unless_a_current_one_is_beside_it(
    host: ConfiguredHost, check: Check, which: str, begins: float, ends: float, words: str | None
) -> None:
    lists = {name: host.chain.revocations(name) for name in ("root", "intermediate")}
    lists[which] = host.chain.revocations(which, from_days=begins, days=ends)
    host.crl.write_bytes(pem(*lists.values()))
    code, told = check()
    assert code == (0 if words is None else 2)
    if words is None:
        assert told == []
        return
    said = f"{host.crl}: ssl_crl: the list of CN={which} {words}"
    assert told[0].startswith(said)
    host.crl.write_bytes(pem(*lists.values(), host.chain.revocations(which)))
    code, told = check()
    assert code == 0
    assert told[0].startswith(f"warning: {said}")


def test_of_the_lists_of_other_cas_only_a_warning_is_due(host: ConfiguredHost, check: Check) -> None:
    """Nobody is judged by them; with `leaf`, not by the root's either."""
    host.puppet("certificate_revocation = leaf")
    host.crl.write_bytes(pem(host.chain.revocations("root", days=-1), host.chain.revocations("intermediate")))
    code, told = check()
    assert (code, len(told)) == (0, 1)
    assert told[0].startswith(f"warning: {host.crl}: ssl_crl: the list of CN=root has expired")


@pytest.mark.parametrize(
    ("mode", "missing", "warned"),
    [
        ("chain", "root", True),
        ("chain", "intermediate", True),
        ("leaf", "root", False),
        ("leaf", "intermediate", True),
    ],
)
def test_a_ca_without_a_list_is_a_warning_where_its_certificates_are_checked(
    host: ConfiguredHost, check: Check, mode: str, missing: str, warned: bool
) -> None:
    host.puppet(f"certificate_revocation = {mode}")
    host.crl.write_bytes(pem(host.chain.revocations("intermediate" if missing == "root" else "root")))
    line = (
        f"warning: {host.crl}: ssl_crl: has no list of CN={missing}: its certificates will be refused "
        f"(certificate_revocation is {mode})"
    )
    assert check() == (0, [line] if warned else [])


@pytest.mark.parametrize(("issuer", "revoked"), [("root", "intermediate"), ("intermediate", "server")])
def test_a_certificate_that_is_on_a_list_is_an_error(
    host: ConfiguredHost, check: Check, issuer: str, revoked: str
) -> None:
    lists = {"root": host.chain.revocations("root"), "intermediate": host.chain.revocations("intermediate")}
    lists[issuer] = host.chain.revocations(issuer, revoked)
    host.crl.write_bytes(pem(*lists.values()))
    path, setting = (host.cert, "ssl_cert") if revoked == "server" else (host.ca, "ssl_ca_cert")
    assert check()[0] == 2
    assert check()[1][0] == f"{path}: {setting}: CN={revoked} is revoked by {host.crl}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://localhost:8085", None),
        ("https://LocalHost:8085", None),
        (
            "https://gateway.example.com:8085",
            "Hostname mismatch, certificate is not valid for 'gateway.example.com'",
        ),
        ("https://127.0.0.1:8085", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("https://[::1]:8085", "IP address mismatch, certificate is not valid for '::1'"),
    ],
)
def test_a_gateway_whose_certificate_has_another_name_is_an_error(
    host: ConfiguredHost, check: Check, url: str, words: str | None
) -> None:
    """Puppet would not talk to it, and quietly go on to the primary. One that is expired, too, is told so as well."""
    host.gateway(url)
    why = f"{host.cert}: ssl_cert: no client of gateway_url accepts it: {words} (it is for localhost)"
    expected = [why] if words else []
    assert check() == ((2, [why, "1 problem: nothing of this would be used"]) if words else (0, []))
    host.cert.write_bytes(pem(host.chain.certificate("server", "intermediate", host="localhost", days=-1)))
    code, told = check()
    assert code == 2
    assert "has expired" in told[0]
    assert told[1:-1] == expected


@pytest.mark.parametrize("what", ["expired", "revoked", "another name"])
def test_the_gateway_does_not_start_with_what_nobody_would_accept(
    host: ConfiguredHost, check: Check, what: str
) -> None:
    """It says the same as the check."""
    host.gateway(f"https://{'127.0.0.1' if what == 'another name' else 'localhost'}:{free_port()}")
    if what == "expired":
        host.cert.write_bytes(pem(host.chain.certificate("server", "intermediate", host="localhost", days=-1)))
    elif what == "revoked":
        host.crl.write_bytes(pem(host.chain.revocations("root"), host.chain.revocations("intermediate", "server")))
    with pytest.raises(ConfigError) as start:
        Server.open(load_config(host.conf))
    assert check() == (2, [str(start.value), "1 problem: nothing of this would be used"])
    assert {"expired": "has expired", "revoked": "is revoked", "another name": "no client"}[what] in str(start.value)


def test_warnings_are_in_the_json_too(host: ConfiguredHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.cert.write_bytes(pem(host.chain.certificate("server", "intermediate", host="localhost", days=3)))
    assert main(["config", "check", "--json", "--config", str(host.conf)]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["puppetdb.conf"]["warnings"]
    assert (warning["file"], warning["line"], warning["setting"]) == (str(host.cert), None, "ssl_cert")


def test_without_a_certificate_of_ones_own_the_others_are_looked_at(host: ConfiguredHost, check: Check) -> None:
    host.conf.write_text("[main]\nserver_urls = https://a\nverify_client_certificate = false\n")
    host.crl.write_bytes(pem(host.chain.revocations("root", days=-1), host.chain.revocations("intermediate")))
    code, told = check()
    assert (code, len(told)) == (0, 1)
    host.crl.write_bytes(b"")
    assert check()[0] == 2


def test_the_reconcilers_files_are_looked_at_as_well(host: ConfiguredHost, check: Check) -> None:
    host.cert.write_bytes(pem(host.chain.certificate("server", "intermediate", host="me", days=3)))
    code, told = check("--sync", host.sync)
    assert (code, len(told)) == (0, 1)
    assert load_sync_config(host.sync).warnings == ()


@pytest.mark.parametrize(
    ("standard", "odd"),
    [(b"\x0c\x06server", b"\x14\x06serv\xe9r"), (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04")],
    ids=["a name in Latin 1", "X.509 version 5"],
)
def test_what_only_openssl_can_read_is_a_warning_and_no_traceback(
    host: ConfiguredHost, check: Check, standard: bytes, odd: bytes
) -> None:
    """TLS works with it; the gateway, which has to know its own name, does not start."""
    der = host.chain.certificate("server", "intermediate", host="localhost").public_bytes(Encoding.DER)
    assert standard in der
    host.cert.write_bytes(ssl.DER_cert_to_PEM_cert(der.replace(standard, odd, 1)).encode())
    code, told = check()
    assert (code, len(told)) == (0, 1)
    assert told[0].startswith(
        f"warning: {host.ca}: one of {host.ca}, {host.cert}, {host.crl} cannot be looked into: "
    )
    host.gateway("https://localhost:8085")
    code, told = check()
    assert (code, len(told)) == (2, 2)
    assert told[0].startswith(f"{host.cert}: ssl_cert: is no certificate: ")


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1()], ids=lambda curve: str(curve.name))
@pytest.mark.parametrize("serves", [True, False])
def test_a_key_that_tls_does_not_use_is_an_error_of_the_certificate_and_hides_no_other(
    host: ConfiguredHost, check: Check, curve: ec.EllipticCurve, serves: bool
) -> None:
    """It loads; and no client gets further than its hello."""
    chain = Chain()
    chain._keys["server"] = ec.generate_private_key(curve)
    host.key.write_bytes(chain.key("server"))
    host.ca.write_bytes(pem(chain.certificates["root"], chain.certificates["intermediate"]))
    host.crl.write_bytes(pem(chain.revocations("root"), chain.revocations("intermediate")))
    host.cert.write_bytes(pem(chain.certificate("server", "intermediate", host="localhost", days=-1)))
    if serves:
        host.gateway("https://localhost:8085")
    code, told = check()
    assert code == 2
    assert told[0].startswith(f"{host.cert}: ssl_cert: CN=server has expired")
    whose = "no client of gateway_url" if serves else "nobody"
    assert told[1].startswith(
        f"{host.cert}: ssl_cert: {whose} accepts it: its key is EC {curve.name}, with which TLS"
    )
    assert len(told) == 3


# -- what stands beside the certificates


def test_a_journal_without_its_directory_is_an_error(host: ConfiguredHost, check: Check, tmp_path: Path) -> None:
    """The gateway would not start."""
    host.gateway("https://localhost:8085", f"journal = {tmp_path}/nowhere/journal.db")
    code, told = check()
    assert (code, told[0]) == (
        2,
        f"{host.conf}:5: journal: its directory {tmp_path}/nowhere does not exist: make it, for the user that the "
        "gateway runs as",
    )
    (tmp_path / "nowhere").mkdir()
    assert check() == (0, [])


def test_a_journal_in_postgresql_needs_its_driver(
    host: ConfiguredHost, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.gateway("https://localhost:8085", "journal = postgresql://pdb:secret@db.example/journal")
    assert check() == (0, [])
    monkeypatch.setitem(sys.modules, "psycopg", None)
    code, told = check()
    assert code == 2
    assert told[0].startswith(f"{host.conf}:5: journal: needs psycopg, which cannot be loaded")
    assert "pip install 'pdbclient[postgresql]'" in told[0]
    assert "secret" not in "".join(told)


def test_a_gateway_among_the_servers_that_is_not_called_one_is_an_error(host: ConfiguredHost, check: Check) -> None:
    """pdbclient would ask it as if it were a PuppetDB; on another host it may be meant so."""
    host.conf.write_text("[main]\nserver_urls = https://localhost:8085,https://a:8081\n")
    code, told = check()
    assert (code, told[0]) == (
        2,
        f"{host.conf}:2: server_urls: https://localhost:8085 looks like the gateway of this host: "
        "set gateway_url = https://localhost:8085 in [pdbclient]",
    )
    host.conf.write_text("[main]\nserver_urls = https://gateway.example:8085,https://localhost:8081\n")
    assert check() == (0, [])


def test_times_to_live_that_differ_from_puppetdbs_own_are_a_warning(
    host: ConfiguredHost, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    monkeypatch.setattr(read_puppetdb, "__defaults__", ((directory,),))
    database = directory / "database.ini"
    database.write_text("[database]\nusername = pdb\npassword = secret\nreport-ttl = 30d\nnode-purge-ttl = 336h\n")
    (directory / "jetty.ini").write_text("[jetty]\nssl-port = 8081\n")
    code, told = check("--sync", host.sync)
    assert code == 0
    assert told == [
        f"warning: {database}:4: report-ttl: is 30d, but report_ttl of the reconciler is 14d (by default): "
        "the two must agree"
    ]
    host.sync.write_text(host.sync.read_text().replace("}]", "}], report-ttl: 7d, node-purge-ttl: 14d"))
    assert check("--sync", host.sync)[1] == [
        f"warning: {host.sync}:1: report_ttl: is 7d, but report-ttl of PuppetDB is 30d (in {database}:4): "
        "the two must agree"
    ]
    database.write_text("[database]\nreport-ttl = 7d\nnode-purge-ttl = 0s\n")
    assert check("--sync", host.sync)[1] == [
        f"warning: {host.sync}:1: node_purge_ttl: is 14d, but node-purge-ttl of PuppetDB is 0s (in {database}:3): "
        "the two must agree"
    ]
    host.sync.write_text(host.sync.read_text().replace("node-purge-ttl: 14d", "node-purge-ttl: 0s"))
    assert check("--sync", host.sync) == (0, [])
    # Another PuppetDB of this machine is none of this reconciler's.
    (directory / "jetty.ini").write_text("[jetty]\nssl-port = 8082\n")
    assert check("--sync", host.sync) == (0, [])
