"""TLS material: our own settings, puppet.conf, and the defaults of each installation."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config import TlsFiles, load_config
from pdbclient.config.puppet_conf import find_confdir, layout_of, parse_puppet_conf
from pdbclient.errors import ConfigError

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]


def _ssldir(write: Write, place: str, certname: str = "host.example.com") -> TlsFiles:
    """An ssldir as Puppet lays it out."""
    return TlsFiles(
        ca=write(f"{place}/certs/ca.pem"),
        cert=write(f"{place}/certs/{certname}.pem"),
        key=write(f"{place}/private_keys/{certname}.pem"),
        crl=write(f"{place}/crl.pem"),
    )


def test_our_own_settings_win_and_relative_paths_start_at_the_file(write: Write) -> None:
    """With another CA than Puppet's, Puppet's revocation list has no say."""
    _ssldir(write, "site/ssl")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        write(f"site/tls/{name}")
    path = write(
        "site/puppetdb.conf",
        "[pdbclient]\nssl_ca_cert = tls/ca.pem\nssl_cert = tls/cert.pem\nssl_key = tls/key.pem\n",
    )
    config = load_config(path)
    tls = path.parent / "tls"
    assert config.tls == TlsFiles(tls / "ca.pem", tls / "cert.pem", tls / "key.pem", revocation="false")
    assert config.origins["ssl_key"] == f"{path}:4"
    assert config.origins["certificate_revocation"] == f"{path}:2"


def test_a_path_from_home_is_the_users_own(write: Write, tmp_path: Path) -> None:
    """`~/` is expanded; the environment has no other say."""
    write("home/ca.pem")
    path = write("puppetdb.conf", "[main]\nverify_client_certificate = false\n[pdbclient]\nssl_ca_cert = ~/ca.pem\n")
    assert load_config(path).tls.ca == tmp_path / "home/ca.pem"


def test_without_settings_puppets_own_files_are_found_beside_the_file(write: Write) -> None:
    """The certname is the host's full name in lower case."""
    tls = _ssldir(write, "site/ssl")
    config = load_config(write("site/puppetdb.conf"))
    assert config.tls == tls
    assert config.origins["ssl_cert"] == "default"
    assert config.warnings == ()


def test_puppet_conf_names_ssldir_and_certname(write: Write, tmp_path: Path) -> None:
    """Each path's origin is the line that decided it."""
    tls = _ssldir(write, "elsewhere", "puppet.example.com")
    puppet = write("site/puppet.conf", f"[main]\nssldir = {tmp_path}/elsewhere\n# c\ncertname = Puppet.Example.Com\n")
    config = load_config(write("site/puppetdb.conf"))
    assert config.tls == tls
    assert config.origins["ssl_ca_cert"] == f"{puppet}:2"
    assert config.origins["ssl_cert"] == f"{puppet}:4"


def test_single_files_may_be_named_in_puppet_conf(write: Write, tmp_path: Path) -> None:
    """With Puppet's variables, and the permissions that Puppet allows behind a path."""
    write("ca/ca.pem"), write("x/c.pem"), write("x/k.pem"), write("x/r.pem")
    write(
        "site/puppet.conf",
        f"[main]\nvardir = {tmp_path}/x\nlocalcacert = $confdir/../ca/ca.pem\nhostcert=${{vardir}}/c.pem\n"
        "hostprivkey = $vardir/k.pem { owner = service, mode = 640 }\nhostcrl = $vardir/r.pem\n",
    )
    tls = load_config(write("site/puppetdb.conf")).tls
    assert tls.ca.resolve() == tmp_path / "ca/ca.pem"
    assert (tls.cert, tls.key, tls.crl) == tuple(tmp_path / "x" / n for n in ("c.pem", "k.pem", "r.pem"))


def test_the_servers_section_comes_before_main_and_the_agents_after(write: Write) -> None:
    """The terminus runs inside the server; [agent] is for machines that say it nowhere else."""
    text = "certname = m0\n[agent]\ncertname = a\nssldir = /a\n[main]\ncertname = m\n[master]\ncertname = ma\n"
    assert parse_puppet_conf(text, "f")["certname"].value == "ma"
    assert parse_puppet_conf(text, "f")["ssldir"].value == "/a"
    assert parse_puppet_conf(text + "[server]\n certname=s \n", "f")["certname"].value == "s"
    assert parse_puppet_conf("[agent]\ncertname = a\n[main]\ncertname = m\n", "f")["certname"].value == "m"


def test_the_first_of_two_lines_holds_and_quotes_are_taken_off() -> None:
    """As `puppet config print` of 7.23 has it."""
    text = 'ssldir = "/a b" \nssldir = /c\ncertname = \'x\n'
    found = parse_puppet_conf(text, "f")
    assert {name: (each.value, each.origin) for name, each in found.items()} == {
        "ssldir": ("/a b", "f:1"),
        "certname": ("x", "f:3"),
    }


@pytest.mark.parametrize(
    ("root", "own_ssl", "expected"),
    [
        (True, True, "debian-ssl"),
        (True, False, "debian-ssl"),
        (False, True, "debian/ssl"),
        (False, False, "debian-ssl"),
    ],
)
def test_debian_keeps_certificates_apart_from_the_configuration(
    root: bool, own_ssl: bool, expected: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its package does for root; other users may have an ssl directory of their own."""
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    write("debian/ssl/crl.pem" if own_ssl else "debian/x")
    assert layout_of(tmp_path / "debian").localcacert.value == f"{tmp_path}/{expected}/certs/ca.pem"


def test_the_packages_of_puppet_keep_them_under_the_confdir(write: Write, tmp_path: Path) -> None:
    """Puppet 4 to 8 and OpenVox."""
    write("aio/puppet.conf")
    assert layout_of(tmp_path / "aio").hostcrl.value == f"{tmp_path}/aio/ssl/crl.pem"


def test_the_confdir_is_the_files_own_directory_else_the_systems(write: Write, tmp_path: Path) -> None:
    """A sync configuration stands in PuppetDB's directory, which has no puppet.conf."""
    puppetdb = write("puppetdb/conf.d/sync.conf").parent
    assert find_confdir(puppetdb) == puppetdb
    write("debian/puppet.conf")
    assert find_confdir(puppetdb) == tmp_path / "debian"
    write("aio/puppet.conf")
    assert find_confdir(puppetdb) == tmp_path / "aio"
    write("puppetdb/conf.d/puppet.conf")
    assert find_confdir(puppetdb) == puppetdb


def test_a_user_looks_into_the_own_directory_first(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Puppet does without root."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    write("aio/puppetdb.conf", "[main]\nserver_urls = https://system\n")
    write("home/.puppetlabs/etc/puppet/puppetdb.conf", "[main]\nserver_urls = https://mine\n")
    assert load_config(check_files=False).server_urls[0].host == "mine"


def test_without_client_certificate_only_the_ca_and_its_list_are_needed(write: Write) -> None:
    """`verify_client_certificate = false` means: present none. The servers are judged as before."""
    ca, crl = write("site/ssl/certs/ca.pem"), write("site/ssl/crl.pem")
    config = load_config(write("site/puppetdb.conf", "[main]\nverify_client_certificate = false\n"))
    assert config.tls == TlsFiles(ca, None, None, crl, revocation="chain")


def test_a_missing_revocation_list_is_refused_and_what_does_without_is_said(write: Write, refused: Refused) -> None:
    """As Puppet refuses it, of which only the agent fetches one."""
    os.unlink(_ssldir(write, "site/ssl").crl or "")
    path = write("site/puppetdb.conf")
    assert refused(lambda: load_config(path)) == [
        f"-: ssl_crl: the revocation list {path.parent}/ssl/crl.pem does not exist (set ssl_crl in [pdbclient], or "
        "certname and ssldir in puppet.conf; certificate_revocation = false does without)"
    ]
    write("site/puppetdb.conf", "[pdbclient]\nssl_crl = gone.pem\n")
    assert refused(lambda: load_config(path)) == [
        f"2: ssl_crl: the revocation list {path.parent}/gone.pem does not exist"
    ]
    write("site/puppetdb.conf", "[pdbclient]\ncertificate_revocation = false\n")
    assert load_config(path).tls.crl is None


@pytest.mark.parametrize(
    ("said", "mode"),
    # Each asked of `puppet config print certificate_revocation`, of 7.23.
    [
        ("", "chain"),
        ("certificate_revocation = chain", "chain"),
        ("certificate_revocation = true", "chain"),
        ("certificate_revocation = leaf", "leaf"),
        ("certificate_revocation = 'leaf'", "leaf"),
        ("certificate_revocation = false", "false"),
        ('certificate_revocation = "false"', "false"),
        ("certificate_revocation = False", "false"),
        ("certificate_revocation = false {owner = root}", "false"),
        ("certificate_revocation = leaf\ncertificate_revocation = false", "leaf"),
        ("certificate_revocation = false\n[server]\ncertificate_revocation = leaf", "leaf"),
    ],
)
def test_puppet_conf_says_what_is_checked_for_revocation(said: str, mode: str, write: Write) -> None:
    """`false` leaves the list out, without a warning."""
    tls = _ssldir(write, "site/ssl")
    puppet = write("site/puppet.conf", f"[main]\n{said}\n")
    config = load_config(write("site/puppetdb.conf"))
    assert config.tls == replace(tls, crl=None if mode == "false" else tls.crl, revocation=mode)
    line = 4 if "[server]" in said else 2
    assert config.origins["certificate_revocation"] == (f"{puppet}:{line}" if said else "default")
    if mode == "false":
        assert config.origins["ssl_crl"] == f"{puppet}:2"
    assert config.warnings == ()


@pytest.mark.parametrize("value", ["CHAIN", "none", "leaf # not the chain", "$nowhere"])
def test_what_puppet_does_not_take_for_revocation_is_refused_in_both_files(
    value: str, write: Write, refused: Refused
) -> None:
    """So that neither a slip of puppet.conf nor one of ours turns the check off."""
    _ssldir(write, "site/ssl")
    puppet = write("site/puppet.conf", f"[main]\ncertificate_revocation = {value}\n")
    path = write("site/puppetdb.conf")
    expected = f"2: certificate_revocation: must be chain or leaf or false, found {value!r}"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert str(problem) == f"{puppet}:{expected}"
    write("site/puppetdb.conf", f"[pdbclient]\ncertificate_revocation = {value}\n")
    assert refused(lambda: load_config(path)) == [expected]


@pytest.mark.parametrize(
    ("own", "puppets", "crl", "mode"),
    [
        ("certificate_revocation = leaf\n", "false", "ssl/crl.pem", "leaf"),
        ("certificate_revocation = false\n", "chain", None, "false"),
        ("ssl_crl = r.pem\n", "leaf", "r.pem", "leaf"),
        ("ssl_crl = r.pem\n", "false", "r.pem", "chain"),  # named to be used
        ("ssl_crl = r.pem\ncertificate_revocation = false\n", "chain", None, "false"),
        ("ssl_ca_cert = ca.pem\n", "leaf", None, "false"),
        ("ssl_ca_cert = ca.pem\nssl_crl = r.pem\n", "leaf", "r.pem", "leaf"),
    ],
)
def test_what_is_checked_for_revocation_and_by_which_list(
    own: str, puppets: str, crl: str | None, mode: str, write: Write
) -> None:
    """Our own setting, else Puppet's; a list named here is used, and Puppet's only with Puppet's CA."""
    _ssldir(write, "site/ssl")
    write("site/r.pem"), write("site/ca.pem")
    write("site/puppet.conf", f"[main]\ncertificate_revocation = {puppets}\n")
    path = write("site/puppetdb.conf", f"[pdbclient]\n{own}")
    tls = load_config(path).tls
    assert (tls.crl, tls.revocation) == (None if crl is None else path.parent / crl, mode)


def test_to_check_another_ca_for_revocation_takes_its_list(write: Write, refused: Refused) -> None:
    """It would be checked against Puppet's list, or not at all."""
    _ssldir(write, "site/ssl")
    write("site/ca.pem")
    path = write("site/puppetdb.conf", "[pdbclient]\nssl_ca_cert = ca.pem\ncertificate_revocation = chain\n")
    assert refused(lambda: load_config(path)) == [
        "3: certificate_revocation: needs ssl_crl beside it: the list of the CA in ssl_ca_cert"
    ]


def test_each_missing_file_is_named_with_what_to_do(write: Write, refused: Refused, tmp_path: Path) -> None:
    """A wrong certname is the usual reason, so the names that are there are said."""
    _ssldir(write, "site/ssl", "other.example.com")
    cert, key = refused(lambda: load_config(write("site/puppetdb.conf")))
    assert cert == (
        f"-: ssl_cert: the client certificate {tmp_path}/site/ssl/certs/host.example.com.pem does not exist "
        "(set ssl_cert in [pdbclient], or certname and ssldir in puppet.conf; "
        "that directory has other.example.com.pem)"
    )
    assert key.startswith(f"-: ssl_key: the client's private key {tmp_path}/site/ssl/private_keys/host")


def test_a_certificate_needs_its_key_and_a_key_its_certificate(write: Write, refused: Refused) -> None:
    """Half a pair would be completed with a file that does not match."""
    _ssldir(write, "site/ssl")
    write("site/c.pem")
    path = write("site/puppetdb.conf", "[pdbclient]\nssl_cert = c.pem\n")
    assert refused(lambda: load_config(path)) == ["2: ssl_cert: needs ssl_key beside it"]
    write("site/puppetdb.conf", "[pdbclient]\nssl_key = c.pem\n")
    assert refused(lambda: load_config(path)) == ["2: ssl_key: needs ssl_cert beside it"]


def test_a_file_that_may_not_be_read_is_named(
    write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case: the key belongs to root or puppet. The check opens the file, as root would pass a mode test."""
    tls = _ssldir(write, "site/ssl")
    real_open = Path.open

    def forbidden(path: Path, *args: str, **options: str) -> object:
        if path == tls.key:
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", forbidden)
    (problem,) = refused(lambda: load_config(write("site/puppetdb.conf")))
    assert f"{tls.key} may not be read by the user with id {os.geteuid()}" in problem


def test_a_directory_is_no_certificate(write: Write, refused: Refused) -> None:
    """Its own message, as it does exist."""
    _ssldir(write, "site/ssl")
    path = write("site/puppetdb.conf", "[pdbclient]\nssl_ca_cert = ssl\n")
    assert refused(lambda: load_config(path)) == [
        f"2: ssl_ca_cert: the CA certificate {path.parent}/ssl is a directory"
    ]


def test_a_puppet_conf_that_cannot_be_read_is_one_of_the_problems(write: Write) -> None:
    """It does not hide the others."""
    puppet = write("site/puppet.conf", b"[main]\ncertname = \xff\n")
    with pytest.raises(ConfigError) as caught:
        load_config(write("site/puppetdb.conf", "[main]\nserver = x\n"))
    texts = [str(problem) for problem in caught.value.problems]
    assert any("server: retired" in text for text in texts)
    assert f"{puppet}:2: not UTF-8: byte 0xff" in texts


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(13, "Permission denied"), "may not be read by the user"),
        (OSError(5, "I/O error"), "I/O error"),
    ],
)
def test_a_configuration_that_cannot_be_read_says_why(
    error: OSError, why: str, write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file's name, and no traceback."""
    path = write("puppetdb.conf")

    def fail(_path: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    (problem,) = refused(lambda: load_config(path))
    assert why in problem


def test_an_ssl_setting_without_a_value_is_one_problem(write: Write, refused: Refused) -> None:
    """Its file is not looked for as well."""
    _ssldir(write, "site/ssl")
    path = write("site/puppetdb.conf", "[pdbclient]\nssl_ca_cert =\n")
    assert refused(lambda: load_config(path)) == ["2: ssl_ca_cert: has no value: must be a path"]


def test_any_puppet_conf_gives_files_or_problems(write: Write, refused: Refused) -> None:
    """A NUL, a variable that nothing defines, a path through a file: never another exception."""
    write("site/puppet.conf", "[main]\nssldir = /a\0b\nhostcert = $nowhere/c.pem\nhostcrl = /dev/null/x/crl.pem\n")
    problems = refused(lambda: load_config(write("site/puppetdb.conf")))
    assert [problem.split(": ")[1] for problem in problems] == ["ssl_key", "ssl_ca_cert", "ssl_cert", "ssl_crl"]


def test_the_dot_at_the_end_of_a_hosts_name_is_no_part_of_its_certname(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it to Puppet (`default_certname` in lib/puppet/settings.rb)."""
    monkeypatch.setattr("socket.getfqdn", lambda: "Host.Example.com.")
    assert layout_of(tmp_path).certname.value == "host.example.com"


def test_a_host_without_a_full_name_goes_by_its_own(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by `localhost`, which a careless /etc/hosts puts first."""
    monkeypatch.setattr("socket.getfqdn", lambda: "localhost.localdomain")
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    assert layout_of(tmp_path).certname.value == "box"
