"""Moving objects: the pure parts. Servers are asked in tests/integration."""

from __future__ import annotations

import io

import pytest

from objectio.cli.progress import Progress
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
