"""Every kind of finding: its code, how bad it is, what it means, and what mends it. Pure.

Codes are stable: documentation has a page for each, and scripts may look for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pdbclient.doctor.model import Finding, Severity

__all__ = ["KINDS", "Kind", "found", "well"]

_PROBLEM, _WARNING = Severity.PROBLEM, Severity.WARNING


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding. `do` may name `{…}`, which each finding fills in."""

    code: str
    severity: Severity
    meaning: str
    do: str


_ALL = (
    # The configuration, and the host
    Kind(
        "configuration",
        _PROBLEM,
        "A file cannot be used as it is: a setting, a certificate, a key, or the permission to read it.",
        "correct it; `pdbclient config check` says when it is right",
    ),
    Kind(
        "file-unreadable",
        _PROBLEM,
        "The service's user may not read a file that it needs.",
        "let {user} read it by its group (`usermod -aG puppet {user}`), or give {user} copies of its own and name "
        "them (ssl_cert, ssl_key)",
    ),
    Kind(
        "configuration-doubtful",
        _WARNING,
        "What is configured is accepted, and probably not meant, or will not do for long.",
        "correct it, or leave it if it is meant so",
    ),
    Kind(
        "looked-as-another-user",
        _WARNING,
        "Files were not seen as the service sees them.",
        "run `pdbclient doctor` as root, or as {user}",
    ),
    Kind(
        "service-user-missing",
        _PROBLEM,
        "The unit names a user that this machine does not have.",
        "make it: `useradd --system --no-create-home --shell /usr/sbin/nologin {user}`",
    ),
    Kind(
        "look-failed",
        _PROBLEM,
        "What the service's user sees could not be found out.",
        "run `pdbclient config check` as that user, which says more",
    ),
    Kind(
        "unit-not-running",
        _PROBLEM,
        "The service is not running, or ends again and again.",
        "`systemctl status {unit}` and `journalctl -u {unit}` say why; then `systemctl enable --now {unit}`",
    ),
    Kind(
        "unit-not-enabled",
        _WARNING,
        "The service runs, and will not after the next boot.",
        "`systemctl enable {unit}`",
    ),
    Kind(
        "secret-open-to-all",
        _WARNING,
        "Every account of this machine can read a secret.",
        "`chmod o= {path}`, and let the service's user read it by its group",
    ),
    Kind(
        "directory-unwritable",
        _PROBLEM,
        "The service cannot write where it keeps its data.",
        "`install -d -o {user} -m 0700 {path}`, and have the unit let it write there: `ReadWritePaths={path}` below "
        "[Service], by `systemctl edit {unit}`",
    ),
    Kind(
        "disk-full",
        _PROBLEM,
        "There is no room, or hardly any, where something is kept.",
        "make room on that file system, or make it larger",
    ),
    Kind(
        "disk-filling",
        _WARNING,
        "There is little room where something is kept.",
        "make room on that file system, or make it larger",
    ),
    # Servers
    Kind(
        "server-unreachable",
        _PROBLEM,
        "No connection to a PuppetDB.",
        "see that PuppetDB runs there, that its name leads there from here, and that no firewall is between",
    ),
    Kind(
        "server-plain-http",
        _PROBLEM,
        "What listens there speaks plain HTTP, or something else than TLS.",
        "name PuppetDB's TLS port, usually 8081 (ssl-port in its jetty.ini)",
    ),
    Kind(
        "server-certificate",
        _PROBLEM,
        "The server's certificate is not accepted: its name, its CA, its age, or a revocation list.",
        "call the server by a name in its certificate, or give it a new one (`puppetdb ssl-setup -f` there)",
    ),
    Kind(
        "server-refuses-certificate",
        _PROBLEM,
        "The server does not accept our certificate.",
        "see that it is current, and of the CA that the server trusts (ssl-ca-cert in its jetty.ini)",
    ),
    Kind(
        "server-forbids",
        _PROBLEM,
        "The server knows our certificate and does not let it in.",
        "add {certname} to the file that certificate-allowlist names there, and restart PuppetDB",
    ),
    Kind(
        "server-not-puppetdb",
        _PROBLEM,
        "Something else than a PuppetDB answers there.",
        "correct its host or port: PuppetDB's TLS port is usually 8081, a Puppet Server's 8140",
    ),
    Kind(
        "server-is-gateway",
        _PROBLEM,
        "One of the servers is a gateway of pdbclient.",
        "if it is this host's, set gateway_url = {url} in [pdbclient]; else name the PuppetDBs behind it",
    ),
    Kind(
        "server-busy",
        _PROBLEM,
        "The server answers that it cannot serve now: it is starting, in maintenance mode, or its database is down.",
        "see its log, and whether its PostgreSQL runs; wait, if it is only just starting",
    ),
    Kind(
        "server-hangs",
        _PROBLEM,
        "The server takes connections and does not answer in time.",
        "see its log and its load; a process that is stopped or swapping looks like this",
    ),
    Kind(
        "server-error",
        _PROBLEM,
        "The server fails at a simple query.",
        "see its log",
    ),
    Kind(
        "version-untested",
        _WARNING,
        "pdbclient is not tested with this version of PuppetDB.",
        "use PuppetDB 7.12 or later, or OpenVoxDB 8 or 9",
    ),
    Kind(
        "versions-hash-differently",
        _PROBLEM,
        "Two servers hash the same records differently: the reconciler refuses them.",
        "upgrade the older one",
    ),
    Kind(
        "same-server-twice",
        _PROBLEM,
        "Two names lead to one server: there is no second copy of anything.",
        "name two servers",
    ),
    Kind(
        "one-server-only",
        _WARNING,
        "There is nothing to fail over to.",
        "name a second PuppetDB in server_urls",
    ),
    Kind(
        "clocks-differ",
        _PROBLEM,
        "Two clocks are apart: the wrong one would choose which record is newer.",
        "have chrony or another NTP client keep the time on both",
    ),
    Kind(
        "queue-long",
        _WARNING,
        "Commands wait at a PuppetDB: it shows what is new late.",
        "see whether it gets shorter; if not, see its log, its database, and `threads` in [command-processing]",
    ),
    Kind(
        "ttl-differs",
        _WARNING,
        "A server keeps records for longer than the reconciler takes for granted.",
        "set report-ttl and node-purge-ttl of both PuppetDBs, and of the sync configuration, to the same values",
    ),
    Kind(
        "peer-lacks-records",
        _WARNING,
        "A server lacks what another one has had for a while: its reconciler does not run, or does not get on.",
        "run `pdbclient doctor` on the host of {target}",
    ),
    # Puppet and the gateway
    Kind(
        "puppet-goes-elsewhere",
        _PROBLEM,
        "Puppet's configuration does not lead where it should: it passes PuppetDB, or the gateway, by.",
        "`{setup} --write` does it, without --write it shows what; then restart Puppet Server",
    ),
    Kind(
        "gateway-not-used",
        _PROBLEM,
        "Puppet cannot use the gateway, and quietly goes on to the next of server_urls.",
        "see `journalctl -u pdbclient-gateway`, and that the name leads to this host",
    ),
    Kind(
        "gateway-not-asked",
        _WARNING,
        "Whether the gateway lets Puppet in was not found out: Puppet's certificate and key could not be read.",
        "run `pdbclient doctor` as root",
    ),
    Kind(
        "gateway-forbids-puppet",
        _PROBLEM,
        "The gateway does not let Puppet's certname in.",
        "add {certname} to gateway_allow in [pdbclient], and reload the gateway",
    ),
    Kind(
        "gateway-is-another",
        _PROBLEM,
        "Something else than the gateway answers at gateway_url.",
        "end what listens there, or give the gateway another port, in gateway_url and in server_urls",
    ),
    Kind(
        "gateway-leaves-out",
        _WARNING,
        "The gateway does not ask a server at present.",
        "what is found about that server, or its log, says why; the gateway goes back to it by itself",
    ),
    # The journal
    Kind(
        "journal-unusable",
        _PROBLEM,
        "The journal cannot be used.",
        "do what it says; until then the gateway does not start, or answers 503 to commands",
    ),
    Kind(
        "journal-undelivered",
        _WARNING,
        "Commands have waited for a server for more than ten minutes.",
        "see what is found about that server; the gateway delivers them by itself when it is back",
    ),
    Kind(
        "journal-parked",
        _WARNING,
        "Servers rejected commands.",
        "`pdbclient journal list --state parked` has the reasons; `journal retry` or `journal drop` them",
    ),
    Kind(
        "journal-near-its-bound",
        _WARNING,
        "The journal holds almost as much as it may; beyond that the oldest reports are dropped from it.",
        "raise journal_max_bytes, or lower journal_max_age",
    ),
    # The reconciler
    Kind(
        "sync-never-ran",
        _PROBLEM,
        "There was no pass against a remote yet.",
        "start pdbclient-sync, or make one: `pdbclient sync once --config {config}`",
    ),
    Kind(
        "sync-lags",
        _PROBLEM,
        "No pass has succeeded for several intervals.",
        "see whether pdbclient-sync runs: `journalctl -u pdbclient-sync`",
    ),
    Kind(
        "sync-failed",
        _PROBLEM,
        "The latest pass failed.",
        "mend what it says; the next pass comes by itself (`pdbclient sync trigger` has it now)",
    ),
    Kind(
        "sync-braked",
        _PROBLEM,
        "The latest pass was refused, or stopped by a brake: what it would have done looks like an accident.",
        "find out whether it is one; what the pass says names the way on",
    ),
    Kind(
        "sync-quarantined",
        _WARNING,
        "Records failed three times and are not tried again.",
        "`pdbclient sync quarantine list` has the reasons; `quarantine retry` tries them again",
    ),
    Kind(
        "sync-state-unusable",
        _PROBLEM,
        "The reconciler's state file cannot be read.",
        "do what it says; without the file, passes begin from nothing, which is safe",
    ),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.code: kind for kind in _ALL})
"""By code, in the order in which they are documented."""


def found(code: str, where: str, what: str, **names: str) -> Finding:
    """A finding of the kind `code`; `names` are those that its advice mentions."""
    kind = KINDS[code]
    return Finding(code, kind.severity, where, what, kind.do.format_map(names))


def well(code: str, where: str, what: str) -> Finding:
    """What was looked at and is well: `code` says what it was."""
    return Finding(code, Severity.OK, where, what)
