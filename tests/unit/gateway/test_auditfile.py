"""Files of lines: what is on the disk, whatever happened before."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat

import pytest

from objectio.gateway.auditfile import TAIL_BYTES, AuditFile, encode_line
from objectio.limits import KIB, MIB


def line(number, size=0):
    return encode_line({"number": number, "more": "x" * size})


def numbers(path):
    return [each.get("number") for each in map(json.loads, path.read_bytes().splitlines())]


@pytest.fixture
def make(tmp_path):
    made = []

    def make(name="n1.admin", bytes_max=MIB, files_max=3):
        directory = tmp_path / "audit"
        made.append(AuditFile(directory, name, bytes_max=bytes_max, files_max=files_max))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_only_its_owner_may_read_it(make):
    file = make()
    file.append(line(1))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    file.path.chmod(0o644)
    make().append(line(2))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert numbers(file.path) == [1, 2]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"number":3',
        b"\0" * 5000,
        b"\xff\xfe\n",
        b'{"number":3}\n\0\0\0\0\n{"number":4}\n',
        b"3\n",
    ],
    ids=["cut", "zeros", "no text", "in between", "no object"],
)
@pytest.mark.parametrize("before", [0, TAIL_BYTES], ids=["short", "long"])
def test_a_torn_end_is_cut_off_and_told(make, torn, before):
    file = make(bytes_max=4 * MIB)
    for number in (1, 2):
        file.append(line(number, before))
    with file.path.open("ab") as opened:
        opened.write(torn)
    again = make(bytes_max=4 * MIB)
    again.append(line(5))
    *whole, repaired, last = map(json.loads, again.path.read_bytes().splitlines())
    kept = [1, 2, 3] if b"3}\n" in torn else [1, 2]
    assert [each["number"] for each in whole] == kept
    assert repaired["event"] == "repaired"
    assert repaired["bytes"] == len(torn) - (len(b'{"number":3}\n') if kept[2:] else 0)
    assert repaired["cut"]
    assert last["number"] == 5
    make(bytes_max=4 * MIB).append(line(6))
    assert numbers(file.path)[-2:] == [5, 6]


def test_full_files_are_put_aside_and_the_oldest_go(make):
    file = make(bytes_max=KIB, files_max=2)
    for number in range(10):
        file.append(line(number, 600))
    found = {path.name: numbers(path) for path in file.path.parent.iterdir()}
    assert found == {
        "n1.admin.000008.jsonl": [7],
        "n1.admin.000009.jsonl": [8],
        "n1.admin.jsonl": [9],
    }


def test_files_of_others_are_let_alone(make):
    others = [make(name) for name in ("n1.denied", "n1", "n1.admin.1", "n2.admin")]
    for other in others:
        other.append(line(0))
    file = make(bytes_max=KIB, files_max=1)
    (file.path.parent / "n1.admin.000000x.jsonl").touch()
    for number in range(5):
        file.append(line(number, 600))
    assert all(numbers(other.path) == [0] for other in others)
    assert (file.path.parent / "n1.admin.000000x.jsonl").exists()
    assert len(list(file.path.parent.iterdir())) == 5 + 2


def test_lines_larger_than_a_file_are_taken(make):
    file = make(bytes_max=KIB)
    file.append(line(1, 5000))
    file.append(line(2, 5000))
    assert numbers(file.path) == [2]


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_who_takes_the_file_away_gets_a_new_one(make, how):
    file = make()
    file.append(line(1))
    if how == "deleted":
        file.path.unlink()
    else:
        file.path.rename(file.path.with_suffix(".old"))
    if how == "replaced":
        file.path.write_bytes(line(7))
    file.append(line(2))
    assert numbers(file.path) == ([7, 2] if how == "replaced" else [2])


def test_what_cannot_be_written_leaves_nothing_behind(make):
    file = make()
    file.append(line(1))
    size = file.path.stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limit[1]))
    try:
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                file.append(line(2))
            assert caught.value.errno == errno.EFBIG
            assert file.path.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    file.append(line(3))
    assert numbers(file.path) == [1, 3]


def test_no_link_and_no_pipe_is_written_to(make, tmp_path):
    file = make()
    file.path.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    file.path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        file.append(line(1))
    assert elsewhere.read_bytes() == b""
    file.path.unlink()
    os.mkfifo(file.path)
    with pytest.raises(OSError, match="no file"):
        file.append(line(1))


def test_whatever_a_text_is_the_line_is_ascii(make):
    file = make()
    text = "a\nb\x1b[2J\x9b\udcff\0é\u2028"
    file.append(encode_line({"resource": text}))
    raw = file.path.read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert b"\x1b" not in raw
    assert json.loads(raw) == {"resource": text}
