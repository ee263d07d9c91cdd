"""puppet.conf: what is added, and in which section."""

from __future__ import annotations

import pytest

from pdbclient.puppet_setup.puppet_conf import Target, edit_puppet_conf, effective, problems_of

ALL = "storeconfigs = true\nstoreconfigs_backend = puppetdb\n"


@pytest.mark.parametrize(
    ("target", "before", "after"),
    [
        ("server", "", f"[server]\n{ALL}reports = store,puppetdb\n"),
        ("server", "[server]\n", f"[server]\n{ALL}reports = store,puppetdb\n"),
        ("server", "[master]\n", f"[master]\n{ALL}reports = store,puppetdb\n"),
        ("server", "[master]\n[server]\n", f"[master]\n[server]\n{ALL}reports = store,puppetdb\n"),
        ("apply", "[server]\n", f"[server]\n\n[main]\n{ALL}reports = store,puppetdb\n"),
        ("server", f"[main]\n{ALL}reports = puppetdb\n", f"[main]\n{ALL}reports = puppetdb\n"),
        ("apply", f"[main]\n{ALL}reports = http, log\n", f"[main]\n{ALL}reports = http, log, puppetdb\n"),
        ("apply", f"{ALL}reports = store,puppetdb,http\n", f"{ALL}reports = store,puppetdb,http\n"),
        ("apply", f"{ALL}reports = none\n", f"{ALL}reports = puppetdb\n"),
        ("apply", f"{ALL}reports =\n", f"{ALL}reports = puppetdb\n"),
        ("apply", f'{ALL}reports = "store, log"\n', f"{ALL}reports = store, log, puppetdb\n"),
        ("server", f"[server]\n{ALL}reports = log\n[main]\n", f"[server]\n{ALL}reports = log,puppetdb\n[main]\n"),
        ("apply", f"[user]\nreports = log\n[main]\n{ALL}", f"[user]\nreports = log,puppetdb\n[main]\n{ALL}"),
        (
            "server",
            "[server]\nstoreconfigs = false # off\nstoreconfigs_backend = active_record\nreports = puppetdb\n",
            "[server]\nstoreconfigs = true\nstoreconfigs_backend = puppetdb\nreports = puppetdb\n",
        ),
        ("server", f"[master]\n{ALL}reports = log\n[server]\n", f"[master]\n{ALL}reports = log,puppetdb\n[server]\n"),
        ("server", "[server]\nstoreconfigs = True\n",
         "[server]\nstoreconfigs = True\nstoreconfigs_backend = puppetdb\nreports = store,puppetdb\n"),
    ],
)  # fmt: skip
def test_each_setting_is_changed_where_it_counts(target: Target, before: str, after: str) -> None:
    """What is right already stays as it is written; a second edit finds nothing to do."""
    edited = edit_puppet_conf(before, target)
    assert edited.text == after
    assert bool(edited.settings) == (before != after)
    assert edit_puppet_conf(after, target).settings == ()


def test_for_a_server_main_is_not_changed() -> None:
    """It would hold for the agent of the same host; the server's own section says otherwise instead."""
    before = f"[main]\n{ALL}reports = log\n[agent]\nreport = true\n"
    assert edit_puppet_conf(before, "server").text == f"{before}\n[server]\nreports = log,puppetdb\n"


def test_what_changes_is_told_with_what_was_there() -> None:
    """Section, name, before and after."""
    changes = edit_puppet_conf("[master]\nstoreconfigs = false\nreports = store, http\n", "server").settings
    assert [(c.section, c.name, c.before, c.after) for c in changes] == [
        ("master", "storeconfigs", "false", "true"),
        ("master", "storeconfigs_backend", None, "puppetdb"),
        ("master", "reports", "store, http", "store, http, puppetdb"),
    ]


def test_the_value_that_counts_has_no_quotes_and_no_file_options() -> None:
    """As Puppet reads it."""
    text = '[main]\ncertname = "a.example"\nroute_file = $confdir/r.yaml { owner = root, mode = 0640 }\n[server]\n'
    assert effective(text, "server", "certname") == "a.example"
    assert effective(text, "server", "route_file") == "$confdir/r.yaml"
    assert effective(text, "server", "vardir") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[main] # the main one\n", "1: Puppet cannot read the line '[main] # the main one'"),
        ("a = 1\n; old\n", "2: Puppet cannot read the line '; old'"),
        ("[main]\na: 1\n", "2: Puppet cannot read the line 'a: 1'"),
        ("[mastre]\n", "1: Puppet knows no section [mastre] here"),
        ("\ufeff[main]\n", "1: begins with a byte order mark"),
    ],
)
def test_what_puppet_cannot_read_is_a_problem(text: str, expected: str) -> None:
    """Puppet would ignore all of the file."""
    (problem,) = problems_of(text, "puppet.conf")
    assert str(problem).startswith(f"puppet.conf:{expected}")


def test_what_puppet_can_read_is_none() -> None:
    """Blanks around headers, CR LF, comments, any order."""
    assert problems_of("x = y\n  [server]\t\r\n # c\r\n\r\na=b # c\n[user]\n[agent]\n[master]\n[main]", "f") == []
