"""routes.yaml: added to, never rewritten."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pdbclient.errors import ConfigError
from pdbclient.puppet_setup.puppet_conf import Target
from pdbclient.puppet_setup.routes import edit_routes

Refused = Callable[[Callable[[], object]], list[str]]
FLOW = "{facts: {terminus: puppetdb, cache: yaml}}"
FACTS = "  facts:\n    terminus: puppetdb\n    cache: yaml\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"master:\n{FACTS}"),
        ("---\n", f"---\nmaster:\n{FACTS}"),
        ("# nothing\n", f"# nothing\nmaster:\n{FACTS}"),
        (f"---\nmaster:\n{FACTS}", f"---\nmaster:\n{FACTS}"),
        (f"server:\n{FACTS}# end\n", f"server:\n{FACTS}# end\n"),
        (f"master: {FLOW}\n", f"master: {FLOW}\n"),
        ("apply: {facts: {terminus: facter}}\n", f"apply: {{facts: {{terminus: facter}}}}\nmaster:\n{FACTS}"),
        (
            "# top\nmaster:   # ours\n  # the facts\n  facts:\n    terminus: 'yaml' # was so\n\n# end\n",
            "# top\nmaster:   # ours\n  # the facts\n  facts:\n    terminus: puppetdb # was so\n    cache: yaml\n"
            "\n# end\n",
        ),
        (
            "server:\n    catalog:\n        cache: json # c\n\nagent:\n    facts: {terminus: facter}",
            "server:\n    catalog:\n        cache: json # c\n    facts:\n      terminus: puppetdb\n"
            "      cache: yaml\n\nagent:\n    facts: {terminus: facter}",
        ),
        ("server:\nagent:\n  facts:\n    cache: yaml\n", f"server:\n{FACTS}agent:\n  facts:\n    cache: yaml\n"),
        ("server:\n  facts:\n    cache:\n", "server:\n  facts:\n    cache: yaml\n    terminus: puppetdb\n"),
        ("master:\r\n  facts:\r\n    cache: yaml\r\n",
         "master:\r\n  facts:\r\n    cache: yaml\r\n    terminus: puppetdb\r\n"),
        (f"master:\n{FACTS}server:\n  node:\n    cache: yaml\n...\n",
         f"master:\n{FACTS}server:\n  node:\n    cache: yaml\n{FACTS}...\n"),
    ],
)  # fmt: skip
def test_the_routes_of_a_server_are_edited_in_place(before: str, after: str) -> None:
    """Comments, order, quotes, other entries and line ends stay; a second edit finds nothing to do."""
    edited = edit_routes(before, "server", "routes.yaml")
    assert edited.text == after
    assert bool(edited.settings) == (before != after)
    assert edit_routes(after, "server", "routes.yaml").settings == ()


def test_the_routes_of_puppet_apply_let_collectors_reach_puppetdb() -> None:
    """With the documented `ral` in front, a search never gets to PuppetDB."""
    before = "apply:\n  resource:\n    terminus: ral\n    cache: puppetdb\n"
    assert edit_routes(before, "apply", "routes.yaml").text == (
        "apply:\n  resource:\n    terminus: puppetdb\n    cache: puppetdb\n"
        "  catalog:\n    terminus: compiler\n    cache: puppetdb\n"
        "  facts:\n    terminus: facter\n    cache: puppetdb_apply\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "master: {facts: {terminus: yaml}}\n",
        "{master: {}}\n",
        "x: &f\n  terminus: yaml\nmaster:\n  facts: *f\n",
        "master:\n  facts: puppetdb\n",
        "master:\n  facts:\n    terminus: >\n      yaml\n",
        "master:\n  facts: ~\n",
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone_with_the_lines_to_write(refused: Refused, text: str) -> None:
    """Flow style, anchors and odd values: no guess."""
    (problem,) = refused(lambda: edit_routes(text, "server", "/etc/routes.yaml"))
    assert problem.startswith("/etc/routes.yaml: master: is written so that a change could break it")
    assert problem.endswith("{master: {facts: {terminus: puppetdb, cache: yaml}}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("master:\n  facts: [\n", "routes.yaml:3: is no YAML: "),
        ("master:\n\tfacts:\n", "routes.yaml:2: is no YAML: "),
        ("- master\n", "routes.yaml: must be a mapping"),
        ("a: 1\n---\nb: 2\n", "routes.yaml:2: is no YAML: "),
    ],
)
def test_what_is_no_routes_file_is_a_problem(refused: Refused, text: str, expected: str) -> None:
    """With its line."""
    (problem,) = refused(lambda: edit_routes(text, "server", "routes.yaml"))
    assert problem.startswith(expected)


_NAME = st.sampled_from(
    ["master", "server", "apply", "agent", "facts", "catalog", "terminus", "cache", "yaml", "x y"]
)
_NODE = st.recursive(st.one_of(_NAME, st.none(), st.integers(0, 9)), lambda n: st.dictionaries(_NAME, n, max_size=3))


@settings(deadline=None)
@given(
    routes=st.dictionaries(_NAME, _NODE, max_size=3),
    target=st.sampled_from(["server", "apply"]),
    indent=st.integers(2, 5),
    flow=st.sampled_from([False, None]),
)
def test_whatever_the_routes_only_those_of_the_target_change_and_no_line_is_lost(
    routes: dict[str, object], target: Target, indent: int, flow: bool | None
) -> None:
    """Or the edit is refused."""
    text = "# first\n" + yaml.safe_dump(routes, indent=indent, default_flow_style=flow) + "# last\n"
    try:
        after = edit_routes(text, target, "routes.yaml").text
    except ConfigError:
        return
    application = "apply" if target == "apply" else "server" if "server" in routes else "master"
    loaded = yaml.safe_load(after)
    assert loaded[application]["facts"]["cache"] == ("yaml" if target == "server" else "puppetdb_apply")
    assert {key: value for key, value in loaded.items() if key != application} == {
        key: value for key, value in routes.items() if key != application
    }
    rest = iter(_without_termini(after))
    assert all(line in rest for line in _without_termini(text))


def _without_termini(text: str) -> list[str]:
    return [line for line in text.split("\n") if not line.strip().startswith(("terminus:", "cache:"))]
