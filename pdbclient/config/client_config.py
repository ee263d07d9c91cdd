"""`puppetdb.conf` on disk -> `ClientConfig`."""

from __future__ import annotations

from pathlib import Path

from pdbclient.config import settings
from pdbclient.config.client_rules import apply_rules, endpoints, rule_warnings
from pdbclient.config.document import Document
from pdbclient.config.model import ClientConfig, Timeouts
from pdbclient.config.puppet_conf import confdir_candidates, find_confdir
from pdbclient.config.reading import read_document
from pdbclient.config.tls import TlsSearch, find_tls
from pdbclient.config.verdict import Verdict, in_file_order, judge, misnamed_sections, unknown
from pdbclient.errors import ConfigError, Problem

__all__ = ["load_config"]

_SECTIONS = ("main", "pdbclient")


def load_config(path: Path | str | None = None, *, check_files: bool = True) -> ClientConfig:
    """Read and check puppetdb.conf, in the stock ini form or in HOCON.

    `path` None looks where Puppet looks; when there is no such file, everything has its default, as for the
    stock terminus, and a warning says so. `check_files` false leaves out whether certificates and keys are
    there and readable: for checking a configuration meant for another machine.
    Raises `ConfigError` with every problem, in file order.
    """
    document, missing = _find_document() if path is None else (read_document(Path(path)), ())
    verdict = _judge(document)
    apply_rules(verdict, document)
    tls = find_tls(
        verdict,
        document,
        section="[pdbclient]",
        present_certificate=verdict.values["verify_client_certificate"],
        check_files=check_files,
    )
    problems = [*document.problems, *verdict.problems, *tls.problems]
    if problems:
        # Where nothing else is wrong than that Puppet is not here at all, that is the first thing to say.
        raise ConfigError(in_file_order([*missing, *problems], document.file))
    warnings = [
        *missing,
        *document.warnings,
        *rule_warnings(verdict),
        *_section_warnings(document),
    ]
    return _config(verdict, tls, in_file_order(warnings, document.file))


def _find_document() -> tuple[Document, tuple[Problem, ...]]:
    """The puppetdb.conf that Puppet would read; when there is none, an empty one and a remark."""
    candidates = [directory / "puppetdb.conf" for directory in confdir_candidates()]
    for candidate in candidates:
        if _is_there(candidate):
            return read_document(candidate), ()
    file = find_confdir() / "puppetdb.conf"
    others = ", ".join(str(candidate) for candidate in candidates if candidate != file)
    why = f"there is no such file (nor {others}): server_urls is https://puppetdb:8081, as to stock Puppet"
    return Document(str(file), {}, {}), (Problem(str(file), None, None, why),)


def _is_there(path: Path) -> bool:
    """Whether something is at `path`; where that may not even be asked, reading it says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _judge(document: Document) -> Verdict:
    main, own = (document.sections.get(name, {}) for name in _SECTIONS)
    known = settings.STOCK.keys() | settings.OWN.keys()
    elsewhere = {**dict.fromkeys(settings.OWN, "belongs into the section [pdbclient]"), **settings.RETIRED}
    stock = {name: entry for name, entry in main.items() if name in settings.STOCK}
    verdict = judge((stock, own), {**settings.STOCK, **settings.OWN})
    verdict.problems += unknown(main, settings.STOCK, elsewhere)
    verdict.problems += unknown(own, known, settings.RETIRED)
    # A substitution may well be named like the setting it is for; but then the setting is there too.
    outside = [entry for name, entry in document.loose.items() if name in known and name not in {*main, *own}]
    verdict.problems += [entry.problem("stands outside of any section: put it into main { }") for entry in outside]
    verdict.problems += misnamed_sections(document, _SECTIONS)
    return verdict


def _section_warnings(document: Document) -> list[Problem]:
    warnings = []
    if document.hocon:
        why = "is HOCON: read here, but not by the stock terminus"
        return [Problem(document.file, None, None, why)]
    for section, line in document.section_lines.items():
        if section not in _SECTIONS:
            warnings.append(Problem(document.file, line, None, f"nobody reads the section [{section}]"))
    return warnings


def _config(verdict: Verdict, tls: TlsSearch, warnings: tuple[Problem, ...]) -> ClientConfig:
    value = verdict.values
    servers, submit_only = endpoints(verdict)
    return ClientConfig(
        server_urls=servers,
        submit_only_server_urls=submit_only,
        tls=tls.files,
        timeouts=Timeouts(
            attempt=value["server_url_timeout"],
            connect=value["connect_timeout"],
            read=value["read_timeout"],
            operation=value["operation_timeout"],
            query=value["query_timeout"],
        ),
        min_successful_submissions=value["min_successful_submissions"],
        command_broadcast=value["command_broadcast"],
        sticky_read_failover=value["sticky_read_failover"],
        soft_write_failure=value["soft_write_failure"],
        include_unchanged_resources=value["include_unchanged_resources"],
        include_catalog_edges=value["include_catalog_edges"],
        verify_client_certificate=value["verify_client_certificate"],
        gateway_url=value["gateway_url"],
        gateway_allow=value["gateway_allow"],
        gateway_local_url=value["gateway_local_url"],
        gateway_local_commands=value["gateway_local_commands"],
        gateway_health_interval=value["gateway_health_interval"],
        gateway_concurrency=value["gateway_concurrency"],
        gateway_max_body_bytes=value["gateway_max_body_bytes"],
        gateway_max_total_bytes=value["gateway_max_total_bytes"],
        gateway_max_url_bytes=value["gateway_max_url_bytes"],
        journal=value["journal"],
        journal_max_age=value["journal_max_age"],
        journal_max_bytes=value["journal_max_bytes"],
        journal_rate=value["journal_rate"],
        journal_heal=value["journal_heal"],
        stale_exported=value["stale_exported"],
        stale_exported_budget=value["stale_exported_budget"],
        gzip_min_bytes=value["gzip_min_bytes"],
        origins={**verdict.origins(), **tls.origins},
        warnings=warnings,
    )
