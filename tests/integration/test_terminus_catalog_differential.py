"""Our catalogs against those of the stock terminus: real Puppet, real Ruby, and every difference has a name.

With each Puppet and its terminus, without a PuppetDB. A catalog is given to us in each form that Puppet has for it,
and compared with what the stock terminus makes of the same catalog inside the compiler.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.catalog import catalog_inputs_payload, catalog_payload
from pdbclient.terminus.names import TYPES
from pdbclient.wire import Command
from tests.integration.catalog_documents import TITLES, random_documents
from tests.integration.catalog_manifests import CASES, ManifestCase
from tests.integration.puppet.stock import StockPuppet, parameters

pytestmark = pytest.mark.integration

DRIVER = Path(__file__).with_name("stock_catalog.rb")
TRANSACTION = "11111111-2222-4333-8444-555555555555"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REDACTED = "#<Sensitive [value redacted]>"

Payload = dict[str, Any]

FILTERED = ("plain", "rich", "cached")
"""Without what is exported only: `puppet catalog compile`, with and without rich data, and the agent's cache."""
WHOLE = ("marked", "unfiltered", "v4")
"""With it: where the driver tells what was not collected, as Puppet prints it, as `/puppet/v4/catalog` wraps it."""
FORMS = (*FILTERED, *WHOLE)
NOT_ASKED = ("plain", "v4")
"""For which nobody asked for rich data: Puppet 7 has made text of it there. From Puppet 8 on it is in every form."""


class Data(Enum):
    """What a document has of values that are no JSON."""

    RICH = "rich data"
    TEXT = "text"

    @classmethod
    def of(cls, puppet: StockPuppet, form: str) -> Data:
        return cls.TEXT if puppet.major < 8 and form in NOT_ASKED else cls.RICH


@dataclass(frozen=True)
class CatalogCorrection:
    """One thing that we do otherwise: how the stock payload changes by it, and in which forms of the document."""

    why: str
    change: Callable[[Payload, str], Payload]
    data: tuple[Data, ...] = tuple(Data)
    forms: tuple[str, ...] = FORMS

    def applies(self, puppet: StockPuppet, form: str) -> bool:
        return form in self.forms and Data.of(puppet, form) in self.data


def stable(payload: Payload, _: str) -> Payload:
    """The placeholder without Ruby's object id; keys of one hash are told apart by their order."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            changed: dict[str, Any] = {}
            for key, item in value.items():
                name = walk(key)
                changed[name if name not in changed else f"{name[:-1]}:{len(changed) + 1}>"] = walk(item)
            return changed
        if isinstance(value, list):
            return [walk(item) for item in value]
        if value == "Sensitive [value redacted]":
            return REDACTED
        if isinstance(value, str):
            return re.sub(r"#<Sensitive \[value redacted\]:\d+>|Instance of Sensitive\[\w+\]", REDACTED, value)
        return value

    return {**payload, "resources": walk(payload["resources"])}


def without_secret_alias(payload: Payload, _: str) -> Payload:
    for resource in payload["resources"]:
        if "hunter2" in json.dumps(resource["parameters"].get("alias")):
            del resource["parameters"]["alias"]
    return payload


def with_edges(*edges: str) -> Callable[[Payload, str], Payload]:
    """Edges of relationships, as `source relationship target`, after those of containment."""

    def change(payload: Payload, _: str) -> Payload:
        payload["edges"] += [wire_edge(*edge.split(" ")) for edge in edges]
        return payload

    return change


def wire_edge(source: str, relationship: str, target: str) -> Payload:
    return {**ends(source, target), "relationship": relationship}


def ends(source: str, target: str) -> Payload:
    """Both ends of an edge, in which `_` stands for a space."""
    found = {}
    for name, reference in (("source", source), ("target", target)):
        kind, _, title = reference.removesuffix("]").partition("[")
        found[name] = {"type": kind, "title": title.replace("_", " ")}
    return found


def replaced(*pairs: tuple[Any, Any]) -> Callable[[Payload, str], Payload]:
    def change(payload: Payload, _: str) -> Payload:
        text = json.dumps(payload)
        for stock, ours in pairs:
            text = text.replace(json.dumps(stock), json.dumps(ours))
        changed: Payload = json.loads(text)
        return changed

    return change


OBJECT_TYPE = (
    "Object[{name => 'Car', attributes => {'registration' => String, 'wheels' => {type => Integer, value => 4}}}]"
)
DEFERRED_TYPE = (
    r"Object[{name => 'Deferred', attributes => {'name' => Pattern[/\A[$]?[a-z][a-z0-9_]*(?:::[a-z][a-z0-9_]*)*\z/], "
    "'arguments' => {type => Optional[Array], value => undef}}}]"
)

LOST = [
    *(("Boolean[true]", "Boolean"), ("Boolean[false]", "Boolean")),
    *(("Sensitive[String]", "Sensitive"), ("Sensitive[Integer]", "Sensitive")),
]
NAMELESS = [None, None, {"a": [None]}]
NAMELESS_TEXT = ["Object[{}]", "Object[{attributes => {'a' => Integer}}]", {"a": ["Object[{}]"]}]

CORRECTIONS: Mapping[str, CatalogCorrection] = {
    # Defects of the stock terminus that are mended here
    "a Sensitive namevar": CatalogCorrection("it went out in clear, as an alias", without_secret_alias),
    "a Sensitive alias": CatalogCorrection(
        "with it went the alias that the namevar gives",
        lambda payload, _: replaced(({"name": "n", "tag": "x"}, {"name": "n", "tag": "x", "alias": ["n"]}))(
            payload, ""
        ),
    ),
    "a Sensitive value in an object": CatalogCorrection(
        "the placeholder told the type of the secret", stable, (Data.RICH,)
    ),
    "a stable placeholder": CatalogCorrection("the catalog's hash changed at every compile", stable),
    "the root directory": CatalogCorrection("a valid catalog was refused", with_edges()),
    "composite namevars by name": CatalogCorrection("a valid catalog was refused", with_edges()),
    "a File's own title": CatalogCorrection("a valid catalog was refused", with_edges()),
    "nested aliases of a composite type": CatalogCorrection("a valid catalog was refused", with_edges()),
    # What a document does not tell
    "exported resources in an unfiltered document": CatalogCorrection(
        "nothing says that they were not collected: they have edges where all that they refer to is there",
        with_edges(
            "Notify[here] required-by Notify[elsewhere]",
            "Notify[also_elsewhere] before Notify[elsewhere]",
            "Notify[here] subscription-of Notify[also_elsewhere]",
        ),
        forms=("unfiltered", "v4"),
    ),
    "what a type loses in the document": CatalogCorrection(
        "Puppet prints these types without their parameter",
        replaced(*LOST),
        (Data.RICH,),
    ),
    "a Sensitive key in text": CatalogCorrection(
        "Puppet has made one text of both keys already",
        lambda payload, _: replaced(({REDACTED: 1, f"{REDACTED[:-1]}:2>": 2}, {"Sensitive [value redacted]": 2}))(
            payload, ""
        ),
        (Data.TEXT,),
    ),
    "a reserved key in text": CatalogCorrection(
        "without rich data, a hash that has a key __ptype looks like an object",
        replaced(({"reserved key: __ptype": "x", "b": 1}, "x({'b' => 1})")),
        (Data.TEXT,),
    ),
    "a nameless object type in text": CatalogCorrection(
        "Puppet has made text of it already, where the stock terminus asks it for its name",
        replaced((NAMELESS, NAMELESS_TEXT)),
        (Data.TEXT,),
    ),
    "an object type in text": CatalogCorrection(
        "Puppet has made text of it already, by another rule",
        replaced(("Car", OBJECT_TYPE), ("Deferred", DEFERRED_TYPE)),
        (Data.TEXT,),
    ),
}

# What the stock terminus refuses and we take: the edges that it has then.
MENDED = {
    "root_directory": "File[/] required-by File[/x]",
    "root_directory_by_path": "File[root] subscription-of Notify[x]",
    "composite_by_name": "Package[foo] required-by Notify[x]",
    "directory_with_another_path": "File[/p/] required-by Notify[x]",
    "nested_aliases_of_a_composite_type": "Package[p] required-by Notify[x]",
}


@pytest.fixture(scope="module")
def documents() -> list[Payload]:
    return random_documents(400)


@pytest.fixture(scope="module", params=parameters())
def puppet(request: pytest.FixtureRequest) -> StockPuppet:
    """Each Puppet that the catalogs are compiled by."""
    stock: StockPuppet = request.param
    return stock


@pytest.fixture(scope="module")
def answers(puppet: StockPuppet, documents: list[Payload]) -> Payload:
    """What the driver says of all cases and documents: one Ruby process."""
    request = {"cases": [case.request() for case in CASES], "documents": documents, "titles": TITLES}
    request["vendor_modules"] = str(puppet.vendor_modules)
    with tempfile.TemporaryDirectory(prefix="pdbclient-stock-") as work:
        asked, answered = Path(work, "request.json"), Path(work, "answer.json")
        asked.write_text(json.dumps(request))
        puppet.ruby(DRIVER, work, asked, answered)
        answer: Payload = json.loads(answered.read_text())
        assert answer["version"].startswith(f"{puppet.version}.")
        return answer


def ours(puppet: StockPuppet, document: Payload, case: ManifestCase | None = None, **options: Any) -> Payload:
    job_id = str(case.job_id) if case and case.job_id is not None else None
    options = {"producer": "primary.example", "transaction_uuid": TRANSACTION, "job_id": job_id, **options}
    return catalog_payload(document, puppet_version=puppet.version, **options)


def stock(answer: Payload, form: str) -> Payload:
    """What the stock terminus made of the catalog that the document in `form` is of."""
    chosen: Payload = copy.deepcopy(answer["filtered"] if form in FILTERED else answer)
    for key in ("stock", "unlinked"):
        chosen.get(key, {}).pop("producer_timestamp", None)
    return chosen


def corrected(puppet: StockPuppet, case: ManifestCase, form: str, payload: Payload) -> Payload:
    for name in case.corrections:
        if CORRECTIONS[name].applies(puppet, form):
            payload = CORRECTIONS[name].change(payload, form)
    return payload


PAIRS = [pytest.param(case, form, id=f"{case.name}-{form}") for case in CASES for form in FORMS]


@pytest.mark.parametrize(("case", "form"), PAIRS)
def test_our_payload_is_the_stock_one_with_the_named_corrections(
    puppet: StockPuppet, answers: Payload, case: ManifestCase, form: str
) -> None:
    answer = answers["cases"][case.name]
    assert "documents" in answer, answer
    document, expected = answer["documents"][form], stock(answer, form)
    if case.name in MENDED:
        assert expected["error"].endswith("doesn't seem to be in the catalog")
        assert ours(puppet, document, case) == with_edges(MENDED[case.name])(expected["unlinked"], form)
    elif "error" in expected and form not in ("unfiltered", "v4"):
        with pytest.raises(InvalidCommand) as refused:
            ours(puppet, document, case)
        assert refused.value.reason == expected["error"]
    elif "error" in expected:
        assert "exported resources in an unfiltered document" in case.corrections
        assert wire_edge("Notify[x]", "required-by", "Notify[y]") in ours(puppet, document, case)["edges"]
    else:
        assert ours(puppet, document, case) == corrected(puppet, case, form, expected["stock"])


@pytest.mark.parametrize("name", CORRECTIONS)
def test_every_correction_is_needed(puppet: StockPuppet, answers: Payload, name: str) -> None:
    """In each form that it names there is a case that would differ without it."""
    for form in FORMS:
        if CORRECTIONS[name].applies(puppet, form):
            cases = [case for case in CASES if name in case.corrections]
            assert any(differs(puppet, answers["cases"][case.name], case, form) for case in cases), (name, form)


def differs(puppet: StockPuppet, answer: Payload, case: ManifestCase, form: str) -> bool:
    expected = stock(answer, form)
    try:
        return ours(puppet, answer["documents"][form], case) != expected.get("stock")
    except InvalidCommand as refused:
        return refused.reason != expected.get("error")


def test_only_cases_with_a_named_correction_differ(puppet: StockPuppet, answers: Payload) -> None:
    differing = {
        (c.name, form) for c in CASES for form in FORMS if differs(puppet, answers["cases"][c.name], c, form)
    }
    named = {
        (c.name, form)
        for c in CASES
        for form in FORMS
        if any(CORRECTIONS[name].applies(puppet, form) for name in c.corrections)
    }
    assert differing == named


def test_from_puppet_8_on_rich_data_is_in_every_form_of_a_document(puppet: StockPuppet, answers: Payload) -> None:
    """So that only the documents of Puppet 7 have lost something on the way."""
    for case in CASES:
        documents = answers["cases"][case.name]["documents"]
        same = documents["plain"] == documents["rich"] and documents["v4"]["catalog"] == documents["unfiltered"]
        assert same or puppet.major < 8, case.name


@pytest.mark.parametrize(("case", "form"), PAIRS)
def test_without_edges_nothing_else_changes(
    puppet: StockPuppet, answers: Payload, case: ManifestCase, form: str
) -> None:
    """And no relationship is refused, as the terminus from 8.3.0 on has it."""
    answer = answers["cases"][case.name]
    expected = corrected(puppet, case, form, stock(answer, form)["unlinked"])
    assert ours(puppet, answer["documents"][form], case, include_edges=False) == {**expected, "edges": []}


@pytest.mark.parametrize(("case", "form"), PAIRS)
def test_puppetdb_would_take_it(puppet: StockPuppet, answers: Payload, case: ManifestCase, form: str) -> None:
    """By our own check of the wire format, which the wire tests hold against the real server."""
    if case.name == "refused_uncollected" and form not in ("unfiltered", "v4"):
        return
    payload = ours(puppet, answers["cases"][case.name]["documents"][form], case)
    command = Command.create("replace catalog", payload, now=NOW)
    assert (command.certname, command.version) == ("node1.example", 9)
    assert "hunter" not in command.body.decode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inputs_are_the_stock_ones(answers: Payload, case: ManifestCase) -> None:
    inputs = answers["cases"][case.name].get("inputs")
    if inputs is None:
        return
    del inputs["producer_timestamp"]
    keys = [key for _, key in inputs["inputs"]]
    made = catalog_inputs_payload("node1.example", inputs["catalog_uuid"], dict.fromkeys(keys, 2))
    assert made is not None
    assert made == inputs
    Command.create("replace catalog inputs", made, now=NOW)


def test_lookups_were_compared_at_all(answers: Payload) -> None:
    keys = answers["cases"]["lookups"]["inputs"]["inputs"]
    assert ["hiera", "looked::a"] in keys
    assert len({key for _, key in keys}) == len(keys) >= 4


def test_random_documents_come_out_as_the_stock_terminus_has_them(
    puppet: StockPuppet, answers: Payload, documents: list[Payload]
) -> None:
    """Relationships that are wrong, too: the same words. Puppet itself reads the documents for its terminus."""
    outcomes = {"same": 0, "refused alike": 0, "unreadable": 0}
    for asked in documents:
        answer = answers["documents"][asked["name"]]
        if "unreadable" in answer:
            outcomes["unreadable"] += 1
        elif "error" in answer:
            with pytest.raises(InvalidCommand) as refused:
                ours(puppet, asked["document"])
            assert refused.value.reason == answer["error"], asked
            outcomes["refused alike"] += 1
        else:
            assert ours(puppet, asked["document"]) == stable(stock(answer, "marked")["stock"], ""), asked
            outcomes["same"] += 1
    assert outcomes["same"] >= 100, outcomes
    assert outcomes["refused alike"] >= 50, outcomes


def test_the_table_of_types_is_puppets_own(puppet: StockPuppet, answers: Payload) -> None:
    """What names a resource, and what titles of all shapes stand for; also in the modules that come with Puppet."""
    for name, known in answers["types"].items():
        names = TYPES[name.capitalize()]
        keys = list(names.key_attributes)
        assert (sorted(keys), names.isomorphic) == (sorted(known["key_attributes"]), known["isomorphic"]), name
        for title, parsed in known["titles"].items():
            assert names.parsed(title) == parsed, (name, title)
    assert {"file", "exec", "package", "notify"} <= set(answers["types"])
    if any(puppet.vendor_modules.glob("*")):
        assert {"sshkey", "zpool", "mount", "host"} <= set(answers["types"])
