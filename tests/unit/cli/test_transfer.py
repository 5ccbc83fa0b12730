"""Moving objects: the pure parts. Servers are asked in tests/integration."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from objectio.cli.progress import Progress, fitted
from objectio.cli.resume import FORGOTTEN_SECONDS, record_of
from objectio.cli.s3 import Where, metadata_headers, parse
from objectio.cli.transfer import PART_BYTES, PARTS_MAX, part_bytes
from objectio.errors import ConfigError, ObjectIOError

TIB = 1 << 40


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 1 << 36, 5 * TIB])
def test_parts_are_enough_for_what_is_known(size):
    each = part_bytes(1, size)
    assert each >= PART_BYTES
    assert each * PARTS_MAX >= size
    assert part_bytes(PARTS_MAX, size) == each
    assert each <= 1 << 30


def test_parts_of_what_is_unknown_grow():
    sizes = [part_bytes(number, None) for number in range(1, PARTS_MAX + 1)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (PART_BYTES, 1 << 30)
    assert sum(sizes) > 2 * TIB


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("", "/b"),
        ("a/b", "/b/a/b"),
        ("/", "/b//"),
        ('~ +%&?#"', "/b/~%20%2B%25%26%3F%23%22"),
        ("\N{LATIN SMALL LETTER A WITH DIAERESIS}", "/b/%C3%A4"),
    ],
)
def test_paths(key, path):
    assert Where("b", key).check().path == path


@pytest.mark.parametrize(
    ("bucket", "key"), [("a/b", "k"), ("", "k"), ("b", "\udcff"), ("b", "k" * 1025)]
)
def test_what_is_no_object(bucket, key):
    with pytest.raises(ConfigError):
        Where(bucket, key).check()


def test_metadata():
    assert metadata_headers(["A=b=c", "d="]) == [(b"x-amz-meta-a", b"b=c"), (b"x-amz-meta-d", b"")]


@pytest.mark.parametrize("word", ["a", "=b", "a b=c", "a=b\r\nx: y", "a=\u00e4"])
def test_what_is_no_metadata(word):
    with pytest.raises(ConfigError):
        metadata_headers([word])


def test_answers():
    root = parse(b'<A xmlns="urn:x"><B>text</B></A>')
    assert (root.tag, root.findtext("B")) == ("A", "text")
    laughs = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    for said in (b"", b"text", b"<a>", laughs):
        with pytest.raises(ObjectIOError):
            parse(said)


@pytest.mark.parametrize(
    ("total", "before", "added", "line"),
    [
        (None, 0, 1024, "1.0 KiB  512 B/s"),
        (4096, 0, 1024, "[######------------------]  25%  1.0 KiB of 4.0 KiB  512 B/s"),
        (4096, 3072, 1024, "[########################] 100%  4.0 KiB of 4.0 KiB  512 B/s"),
        (0, 0, 0, "0 B  0 B/s"),
    ],
)
def test_progress(total, before, added, line):
    progress = Progress(None, total, before)
    progress.add(added)
    assert progress.line(2.0).startswith(line)


def test_progress_is_quiet_where_nobody_looks():
    written = io.StringIO()
    with Progress(written, 10) as progress:
        progress.add(10)
    assert written.getvalue() == ""


def test_a_home_that_is_not_there_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "lost"))
    with record_of("http://h:1", Where("b", "k"), tmp_path / "file", {}) as record:
        assert record is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lost").mkdir()
    with record_of("http://h:1", Where("b", "k"), tmp_path / "file", {}) as record:
        assert record is not None


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, "[####--------]  33%  10 MiB of 30 MiB"),
        (38, "[####--------]  33%  10 MiB of 30 MiB"),
        (37, " 33%  10 MiB of 30 MiB"),
        (11, " 33%  10 M"),
    ],
)
def test_progress_keeps_to_one_line(columns, shown):
    assert fitted("[####--------]  33%  10 MiB of 30 MiB", columns) == shown


def test_what_was_there_before_makes_no_speed():
    progress = Progress(None, 100 << 20)
    progress.found(50 << 20)
    progress.add(10 << 20)
    assert progress.line(10).startswith("[##############----------]  60%  60.0 MiB of 100.0 MiB")
    assert "1.0 MiB/s  40 seconds left" in progress.line(10)


class TestRecord:
    HEADERS = [(b"content-type", b"text/plain")]

    @pytest.fixture
    def opened(self, tmp_path):
        environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
        file = tmp_path / "file"
        return lambda key="key", endpoint="http://a", file=file: record_of(
            endpoint, Where("bucket", key), file, environ
        )

    def test_it_is_there_again(self, opened):
        with opened() as record:
            assert record.read() == ("", [])
            record.write("id", self.HEADERS)
        with opened() as record:
            assert record.read() == ("id", self.HEADERS)
            record.remove()
        with opened() as record:
            assert record.read() == ("", [])

    def test_what_was_not_begun_leaves_nothing(self, opened, tmp_path):
        with opened():
            pass
        assert list((tmp_path / "state/objectio/uploads").iterdir()) == []

    def test_it_is_of_one_object_server_and_file(self, opened, tmp_path):
        with opened() as record:
            record.write("id", [])
        for other in ({"key": "k"}, {"endpoint": "http://b"}, {"file": tmp_path / "other"}):
            with opened(**other) as record:
                assert record.read() == ("", [])

    def test_one_command_at_a_time(self, opened):
        with opened() as record:
            record.write("id", [])
            with pytest.raises(ObjectIOError, match="another command"), opened():
                pass
        with opened() as record:
            assert record.read()[0] == "id"

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"upload_id": "x"}', b"\xff"])
    def test_one_that_makes_no_sense_is_none(self, opened, tmp_path, damage):
        with opened() as record:
            record.write("id", [])
        (path,) = (tmp_path / "state/objectio/uploads").iterdir()
        path.write_bytes(damage)
        with opened() as record:
            assert record.read() == ("", [])

    def test_old_ones_are_forgotten(self, opened, tmp_path):
        with opened() as record:
            record.write("id", [])
        (path,) = (tmp_path / "state/objectio/uploads").iterdir()
        then = time.time() - FORGOTTEN_SECONDS
        os.utime(path, (then + 3600, then + 3600))
        with opened("other"):
            assert path.exists()
        os.utime(path, (then - 3600, then - 3600))
        with opened("other"):
            assert not path.exists()

    def test_nobody_else_may_read_it(self, opened, tmp_path):
        with opened() as record:
            record.write("id", [])
        (path,) = (tmp_path / "state/objectio/uploads").iterdir()
        assert path.stat().st_mode & 0o077 == 0

    def test_a_home_that_is_none(self):
        with record_of("", Where("b", "k"), Path("f"), {"XDG_STATE_HOME": "/dev/null"}) as record:
            assert record is None
