"""Which releases of PuppetDB a test meets, and that several processes share these tests by pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import conftest, matrix, puppetdbs
from tests.matrix import Pair, alike, share

ALL = puppetdbs.VERSIONS


@pytest.fixture
def everyday(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "MATRIX", False)


def in_the_matrix(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(matrix, "MATRIX", True)
    monkeypatch.setattr(matrix, "_WANTED", wanted)


@pytest.mark.usefixtures("everyday")
def test_in_every_run_a_marked_test_meets_its_own_release_and_all_others() -> None:
    own, *others = share()
    assert own == matrix.OWN_PAIR
    assert {version for pair in others for version in (pair.primary, pair.replica)} == set(ALL)
    assert {own.primary, *(pair.primary for pair in others)} >= {"8.4.1", "8.8.1"}


@pytest.mark.usefixtures("everyday")
def test_in_the_long_form_it_may_meet_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "LONG", False)
    assert share("8.8.1+7.12.1", own=False, long=["8.8.1+8.8.1"]) == [Pair("8.8.1", "7.12.1")]
    monkeypatch.setattr(matrix, "LONG", True)
    assert share("8.8.1+7.12.1", own=False, long=["8.8.1+8.8.1"]) == [Pair("8.8.1", "7.12.1"), Pair("8.8.1", "8.8.1")]


@pytest.mark.usefixtures("everyday")
def test_a_test_may_choose_its_pairs_and_meets_none_twice() -> None:
    chosen = "8.8.1+7.12.1", "8.8.1+7.12.1"
    assert share(*chosen, own=False) == [Pair("8.8.1", "7.12.1")]
    assert share(*chosen) == [matrix.OWN_PAIR, Pair("8.8.1", "7.12.1")]
    assert share(str(matrix.OWN_PAIR)) == [matrix.OWN_PAIR]


def test_in_the_matrix_it_meets_every_two_both_ways_and_a_test_without_the_mark_two_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_the_matrix(monkeypatch, "all")
    assert share("8.8.1+7.12.1", own=False) == share()
    assert set(share()) == {matrix.OWN_PAIR, *(Pair(one, other) for one in ALL for other in ALL)}
    assert set(alike()) == {matrix.OWN_PAIR, *(Pair(version, version) for version in ALL)}


def test_a_matrix_of_named_pairs_has_these_only(monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_matrix(monkeypatch, "8.8.1+7.12.1 8.4.1+8.4.1")
    assert share() == alike() == [Pair("8.8.1", "7.12.1"), Pair("8.4.1", "8.4.1")]


def test_all_tests_of_a_pair_go_to_one_process_and_others_by_files() -> None:
    file = "tests/integration/test_wire.py"
    own = matrix.OWN_PAIR
    parameters = {
        "8.8.1+7.12.1": "8.8.1+7.12.1",
        "a-8.8.1+7.12.1-b": "8.8.1+7.12.1",
        str(own): None,
        "1.5-b'1.5'": None,
        "PuppetDB-7.12.1-2026-11-20+1400-01-01": None,
    }
    assert {each: conftest.pair_of(f"{file}::test_x[{each}]") for each in parameters} == parameters
    assert conftest.pair_of(f"{file}::test_x") is None


def test_what_is_missing_or_another_release_than_wanted_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puppetdbs, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(puppetdbs, "OWN", "7.12.1")
    monkeypatch.setattr(puppetdbs, "_driver", lambda: (42, 7, 7))
    assert puppetdbs.said() == "no 7.12.1, no 8.4.1, no 8.8.1"
    monkeypatch.setattr(puppetdbs, "_driver", lambda: (42, 5, 5))
    assert puppetdbs.said() == "7.12.1 (installed), no 8.4.1, no 8.8.1"
    made = {"8.4.1": "8.4.1", "8.8.1": "8.9.0"}
    releases = {}
    for version, held in made.items():
        puppetdbs.place(version).touch()
        releases[puppetdbs.place(version)] = puppetdbs.Release(held)
    monkeypatch.setattr(puppetdbs, "read_release", releases.__getitem__)
    told = "7.12.1 (installed), 8.4.1, 8.9.0 in place of 8.8.1, which Debian no longer has"
    assert puppetdbs.said() == told
