"""Whether Puppet's own configuration leads to PuppetDB, and to the gateway, asked as Puppet would ask it."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pdbclient.config import ClientConfig, Endpoint, TlsFiles, load_config
from pdbclient.config.puppet_conf import PuppetLayout, find_confdir, layout_of
from pdbclient.config.values import SettingError, revocation
from pdbclient.doctor.gather.servers import LIMITS, ONE_QUESTION
from pdbclient.doctor.model import GatewayFacts, PuppetFacts, SettingFacts
from pdbclient.errors import ConfigError, ServerError, TransportError
from pdbclient.gateway.addresses import METRICS_PATH
from pdbclient.http.outcome import Outcome
from pdbclient.http.session import Session
from pdbclient.puppet_setup import Plan, SettingChange, Wanted, plan_setup
from pdbclient.puppet_setup.puppet_conf import Target

__all__ = ["look_at_puppet"]

METRICS_LIMIT = 4 * 1024 * 1024


def look_at_puppet(path: Path) -> PuppetFacts:
    """The facts about the Puppet whose puppetdb.conf is at `path`."""
    confdir = find_confdir(path.absolute().parent)
    try:
        config = load_config(path, check_files=False)
    except ConfigError as error:
        return PuppetFacts(str(confdir), errors=error.problems)
    url = None if config.gateway_url is None else config.gateway_url.url
    gateway = _gateway(confdir, config.gateway_url)
    try:
        target, plan = _nearest(confdir, config)
    except ConfigError as error:
        return PuppetFacts(str(confdir), url, errors=error.problems, gateway=gateway)
    setup = f"pdbclient terminus setup --confdir {shlex.quote(str(confdir))} --for {target}"
    return PuppetFacts(
        str(confdir),
        url,
        f"{setup} --no-gateway" if url is None else setup,
        # What is said of puppetdb.conf itself, the service's own look says.
        warnings=tuple(warning for warning in plan.warnings if warning not in config.warnings),
        astray=tuple(
            SettingFacts(str(change.file), _setting(change.file, each), each.before, each.after)
            for change in plan.changes
            for each in change.settings
        ),
        gateway=gateway,
    )


def _setting(file: Path, change: SettingChange) -> str:
    """The setting, as its kind of file has it."""
    return f"{change.section}.{change.name}" if file.suffix == ".yaml" else f"[{change.section}] {change.name}"


def _nearest(confdir: Path, config: ClientConfig) -> tuple[str, Plan]:
    """What is still to be changed for a Puppet Server, or for `puppet apply`: the one that lacks less is meant."""
    gateway = config.gateway_url
    plans: list[tuple[str, Plan]] = []
    refused: ConfigError | None = None
    targets: tuple[Target, ...] = ("server", "apply")
    for target in targets:
        try:
            plans.append((target, plan_setup(confdir, Wanted(target, gateway is not None, gateway))))
        except ConfigError as error:
            refused = refused or error
    if not plans and refused is not None:
        raise refused
    return min(plans, key=lambda found: sum(len(change.settings) for change in found[1].changes))


def _gateway(confdir: Path, url: Endpoint | None) -> GatewayFacts | None:
    if url is None:
        return None
    layout = layout_of(confdir)
    facts = GatewayFacts(url.url, layout.hostcert.value, layout.certname.value)
    try:
        with closing(Session(url, _tls_of(layout), LIMITS)) as session:
            page = session.relay("GET", METRICS_PATH, headers={}, within=ONE_QUESTION)
            text = b"".join(page.chunks)[:METRICS_LIMIT].decode("utf-8", "replace")
    except (TransportError, ServerError) as error:
        outcome = Outcome.of(error)
        return replace(facts, met=str(outcome.kind), error=outcome.detail)
    except ConfigError as error:
        return replace(facts, unasked=str(error))
    return _read(facts, text)


def _read(facts: GatewayFacts, text: str) -> GatewayFacts:
    """What the gateway's metrics say of its servers and its journal."""
    unusable: dict[str, None] = {}
    is_gateway, journal_up = False, None
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "pdbclient_server_usable":
                    is_gateway = True
                    if not sample.value:
                        unusable[f"{sample.labels['server']} for {sample.labels['for']}"] = None
                elif sample.name == "pdbclient_journal_up":
                    journal_up = bool(sample.value)
    except (ValueError, KeyError):
        is_gateway = False
    return replace(facts, is_gateway=is_gateway, unusable=tuple(unusable), journal_up=journal_up)


def _tls_of(layout: PuppetLayout) -> TlsFiles:
    """The files that Puppet itself connects with."""
    try:
        mode = revocation(layout.revocation.value)
    except SettingError:
        mode = "chain"
    ca, cert, key, crl = (
        Path(located.value) for located in (layout.localcacert, layout.hostcert, layout.hostprivkey, layout.hostcrl)
    )
    return TlsFiles(ca, cert, key, None if mode == "false" else crl, revocation=mode)
