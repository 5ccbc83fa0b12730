"""The directory of the metadata is taken away under a process that has its files open."""

from __future__ import annotations

import shutil

import pytest

from objectio.kv.place import Place


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "meta"
    made.mkdir()
    (made / "data").write_bytes(b"rows")
    return made


def severities(place):
    return [finding.severity for finding in place.findings()]


def remove(directory):
    shutil.rmtree(directory)


def empty(directory):
    (directory / "data").unlink()


def exchange(directory):
    directory.rename(directory.parent / "old")
    directory.mkdir()
    (directory / "data").write_bytes(b"rows")


@pytest.mark.parametrize("take_away", [remove, empty, exchange])
def test_what_is_taken_away_is_found(directory, take_away):
    place = Place(directory, journaled=True)
    assert place.findings() == []
    take_away(directory)
    assert severities(place) == ["critical"]


def test_what_is_put_back_is_well(directory):
    place = Place(directory, journaled=True)
    moved = directory.rename(directory.parent / "moved")
    assert severities(place) == ["critical"]
    moved.rename(directory)
    (directory / "more").write_bytes(b"")
    assert place.findings() == []


def test_what_to_do_depends_on_the_journal(directory):
    places = [Place(directory, journaled=journaled) for journaled in (True, False)]
    remove(directory)
    told = [place.findings()[0].action for place in places]
    assert ["meta rebuild" in action for action in told] == [True, False]


@pytest.mark.parametrize("made", [False, True])
def test_an_engine_that_keeps_nothing_there_has_no_place(tmp_path, made):
    directory = tmp_path / "meta"
    if made:
        directory.mkdir()
    place = Place(directory, journaled=True)
    directory.mkdir(exist_ok=True)
    (directory / "data").write_bytes(b"x")
    assert place.findings() == []
