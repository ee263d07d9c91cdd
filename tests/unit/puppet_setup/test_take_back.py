"""A set-up is taken back out of files that were changed since: its own settings go, all else stays as it is."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pdbclient.config import Endpoint
from pdbclient.puppet_setup import Action, SetupError, Undone, Wanted, plan_setup, undo, write

from .conftest import Confdir

NOW = datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
WANTED = Wanted(server_urls=(Endpoint("a", 8081), Endpoint("b", 8081)), gateway_url=Endpoint("g", 8085))
PUPPET_CONF = "# ours\n[main]\ncertname = g\n\n[server]\n  reports = log\n"
PUPPETDB_CONF = "[main]\nserver_urls = https://a:8081,https://b:8081\nserver_url_timeout = 12\n"
ROUTES = "server:\n  catalog:\n    cache: json  # for the audit\nagent:\n  node:\n    cache: yaml\n"
FILES = {"puppet.conf": PUPPET_CONF, "puppetdb.conf": PUPPETDB_CONF, "routes.yaml": ROUTES}


def changed(directory: Path, name: str, old: str, new: str) -> None:
    text = (directory / name).read_text()
    assert text.count(old) == 1, text
    (directory / name).write_text(text.replace(old, new))


def undone(directory: Path, name: str) -> Undone:
    (found,) = (each for each in undo(directory) if each.file.name == name)
    return found


def left_behind(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("puppet.conf", "# ours", "# ours, and mine"),
        ("puppet.conf", "certname = g\n", "certname = g\nenvironment = test\n"),
        ("puppet.conf", "[main]\ncertname = g\n\n", "[agent]\nruninterval = 1h\n[main]\ncertname = g\n\n"),
        ("puppetdb.conf", "server_url_timeout = 12", "server_url_timeout = 20"),
        ("puppetdb.conf", "server_url_timeout = 12\n", "server_url_timeout = 12\nsoft_write_failure = true\n"),
        ("puppetdb.conf", "[main]\n", "; managed\n[main]\n"),
        ("routes.yaml", "cache: yaml\n", "cache: yaml\n# mine\n"),
        ("routes.yaml", "# for the audit", "# for nobody"),
        ("routes.yaml", "agent:\n", "apply:\n  facts:\n    terminus: facter\nagent:\n"),
    ],
)
def test_what_is_changed_before_or_after_the_set_up_is_there_after_the_undo(
    confdir: Confdir, name: str, old: str, new: str
) -> None:
    """Byte by byte, as if there had been no set-up in between."""
    directory = confdir(FILES)
    changed(directory, name, old, new)
    expected = (directory / name).read_bytes()
    confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    if name == "routes.yaml" and old == "cache: yaml\n":
        # The set-up's own cache stands before that of the agent.
        text = (directory / name).read_text()
        (directory / name).write_text(text.removesuffix(old) + new)
    else:
        changed(directory, name, old, new)
    found = undone(directory, name)
    assert (directory / name).read_bytes() == expected
    assert (found.action, found.taken_back.left) == (Action.EDITED, ())
    others = {other: text for other, text in FILES.items() if other != name}
    assert {other: (directory / other).read_text() for other in others} == others


def test_the_journal_that_the_docs_tell_to_add_is_kept_and_named(confdir: Confdir) -> None:
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "puppetdb.conf", "gateway_url = ", "journal = /var/lib/pdbclient/journal.db\ngateway_url = ")
    found = undone(directory, "puppetdb.conf")
    assert (directory / "puppetdb.conf").read_text() == (
        f"{PUPPETDB_CONF}\n[pdbclient]\njournal = /var/lib/pdbclient/journal.db\n"
    )
    assert found.taken_back.undone == ("main.server_urls", "pdbclient.gateway_url")
    assert found.taken_back.kept == ("pdbclient.journal",)
    assert found.backup is not None
    assert found.backup.read_text() == PUPPETDB_CONF
    assert left_behind(directory) == {*FILES, found.backup.name}


def test_a_new_file_with_nothing_of_anybody_else_in_it_goes(confdir: Confdir) -> None:
    directory = confdir({"puppet.conf": PUPPET_CONF})
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "puppetdb.conf", "[pdbclient]\n", "\n\n[pdbclient]\n")
    changed(directory, "routes.yaml", "master:\n", "\nmaster:\n")
    assert [each.action for each in undo(directory)] == ["restored", "removed", "removed"]
    assert left_behind(directory) == {"puppet.conf"}


def test_what_was_put_into_a_list_is_taken_out_of_it(confdir: Confdir) -> None:
    """A server and a report processor were added since; Puppet must not go on asking the gateway."""
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "puppetdb.conf", "https://b:8081", "https://b:8081,https://c:8081")
    changed(directory, "puppet.conf", "log,puppetdb", "log,http,puppetdb")
    assert [each.taken_back.left for each in undo(directory)] == [(), (), ()]
    assert "server_urls = https://a:8081,https://b:8081,https://c:8081\n" in (directory / "puppetdb.conf").read_text()
    assert (directory / "puppet.conf").read_text() == PUPPET_CONF.replace("log", "log,http")


def test_a_setting_of_the_set_up_that_was_changed_since_is_left_and_said(confdir: Confdir) -> None:
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "puppet.conf", "storeconfigs = true", "storeconfigs = false")
    changed(directory, "routes.yaml", "terminus: puppetdb", "terminus: yaml")
    changed(directory, "puppetdb.conf", "gateway_url = https://g:8085", "gateway_url = https://h:8085")
    puppet_conf, routes, puppetdb_conf = undo(directory)
    assert puppet_conf.taken_back.left == ("server.storeconfigs",)
    assert "storeconfigs = false" in (directory / "puppet.conf").read_text()
    assert "storeconfigs_backend" not in (directory / "puppet.conf").read_text()
    assert routes.taken_back.left == ("server.facts.terminus",)
    assert routes.taken_back.undone == ("server.facts.cache",)
    assert "    terminus: yaml\n" in (directory / "routes.yaml").read_text()
    assert puppetdb_conf.taken_back.left == ("pdbclient.gateway_url",)
    assert (
        directory / "puppetdb.conf"
    ).read_text() == f"{PUPPETDB_CONF}\n[pdbclient]\ngateway_url = https://h:8085\n"


def test_a_former_value_comes_back_beside_what_was_added(confdir: Confdir) -> None:
    routes = ROUTES.replace("server:\n", "server:\n  facts:\n    terminus: yaml\n")
    directory = confdir({**FILES, "routes.yaml": routes})
    write(plan_setup(directory, WANTED), NOW)
    assert "terminus: puppetdb" in (directory / "routes.yaml").read_text()
    with (directory / "routes.yaml").open("a") as file:
        file.write("user: {}\n")
    assert undone(directory, "routes.yaml").taken_back.left == ()
    assert (directory / "routes.yaml").read_text() == f"{routes}user: {{}}\n"


def test_comments_among_what_goes_stay(confdir: Confdir) -> None:
    directory = confdir({"puppet.conf": PUPPET_CONF})
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "routes.yaml", "    cache: yaml\n", "    # why not\n    cache: yaml\n")
    undo(directory)
    assert (directory / "routes.yaml").read_text() == "    # why not\n"


def test_a_file_that_was_removed_since_stays_so_and_its_former_text_is_named(confdir: Confdir) -> None:
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    (directory / "routes.yaml").unlink()
    found = undone(directory, "routes.yaml")
    assert found.action is Action.LEFT
    assert found.backup is not None
    assert found.backup.read_text() == ROUTES
    assert not (directory / "routes.yaml").exists()
    assert (directory / "puppet.conf").read_text() == PUPPET_CONF


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("puppet.conf", "[main\n", "puppet.conf:1: Puppet cannot read the line"),
        ("puppetdb.conf", "main: {}\n", "puppetdb.conf: is HOCON"),
        ("routes.yaml", "server: [\n", "routes.yaml:2: is no YAML"),
        (
            "routes.yaml",
            "server: {facts: {terminus: puppetdb, cache: yaml}, catalog: {cache: json}}\n",
            "routes.yaml: is written so that a change could break it: take back yourself what was set up: "
            "server.facts.terminus, server.facts.cache",
        ),
        ("puppet.conf", "[main]\n# \udcff\n", "puppet.conf: was changed since, and is no UTF-8"),
    ],
)
def test_what_cannot_be_edited_is_named_and_nothing_is_undone(
    confdir: Confdir, name: str, text: str, why: str
) -> None:
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    (directory / name).write_bytes(text.encode(errors="surrogateescape"))
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(SetupError) as caught:
        undo(directory)
    first, *_, last = str(caught.value).splitlines()
    assert first.startswith(f"{directory}/{why}")
    assert last.startswith("nothing was undone")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_the_record_which_has_the_texts_is_for_nobody_else_to_read(confdir: Confdir) -> None:
    """A journal in PostgreSQL has a password in its URL."""
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    (record,) = directory.glob("pdbclient-setup-*.json")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_an_edited_file_keeps_the_mode_that_it_has_now(confdir: Confdir) -> None:
    directory = confdir(FILES)
    write(plan_setup(directory, WANTED), NOW)
    changed(directory, "puppet.conf", "# ours", "# mine")
    (directory / "puppet.conf").chmod(0o604)
    undo(directory)
    assert stat.S_IMODE((directory / "puppet.conf").stat().st_mode) == 0o604
