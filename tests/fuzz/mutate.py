"""Bytes made from bytes: what a fuzzer tries where there is no coverage to guide it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

_WORD = re.compile(rb"[A-Za-z0-9*_-]{2,40}")
_ODD = (
    *(b"", b"\x00", b"\r\n", b"\n", b" ", b"\t", b"%00", b"%", b"%zz", b"%2e%2e%2f", b"../", b"//"),
    *(b"-1", b"0", b"1e309", b"NaN", b"99999999999999999999", b"2147483648", b"9" * 400, b"null"),
    *(b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", "\u202e".encode(), "é".encode(), b"\x1b[2J"),
    *(
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"&b;",
        b"]]>",
        b"<![CDATA[",
        b"<?xml version='9'?>",
        b"<a/>",
    ),
    *(
        b"[]",
        b"{}",
        b"null",
        b"true",
        b'""',
        b"[" * 50,
        b'{"a":' * 50,
        b"*",
        b"?",
        b"${",
        b"${aws:x}",
    ),
    *(b"bytes=-", b"bytes=0-,", b'"', b"''", b"9999-99-99T99:99:99Z", b"0000-00-00", b"a" * 5000),
)


def dictionary_of(seeds: Iterable[bytes]) -> list[bytes]:
    """The words that the seeds are made of."""
    return sorted({word for seed in seeds for word in _WORD.findall(seed)})


class Mutator:
    """`make()` is one more thing to try, from seeds and the words in them."""

    def __init__(self, seeds: Iterable[bytes], seed: int) -> None:
        self._seeds = list(seeds)
        self._words = dictionary_of(self._seeds)
        self._random = random.Random(seed)

    def make(self) -> bytes:
        data = self._random.choice(self._seeds)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 5, 9))):
            data = self._random.choice(_WAYS)(self, data)
        return data

    def _span(self, data: bytes) -> tuple[int, int]:
        begin = self._random.randint(0, len(data))
        return begin, min(len(data), begin + self._random.choice((0, 1, 1, 2, 4, 16, 64)))

    def flip(self, data: bytes) -> bytes:
        if not data:
            return b"\x00"
        at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]

    def cut(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:begin] + data[end:]

    def repeat(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:end] + data[begin:end] * self._random.choice((1, 1, 2, 30)) + data[end:]

    def truncate(self, data: bytes) -> bytes:
        return data[: self._random.randint(0, len(data))]

    def insert(self, data: bytes) -> bytes:
        at = self._random.randint(0, len(data))
        return data[:at] + self._random.choice(_ODD) + data[at:]

    def word(self, data: bytes) -> bytes:
        """A word becomes another one, or something odd."""
        found = list(_WORD.finditer(data))
        if not found:
            return data
        match = self._random.choice(found)
        new = self._random.choice(self._words if self._random.random() < 0.6 else _ODD)
        return data[: match.start()] + new + data[match.end() :]

    def cross(self, data: bytes) -> bytes:
        """The begin of this and the end of another one."""
        other = self._random.choice(self._seeds)
        return (
            data[: self._random.randint(0, len(data))]
            + other[self._random.randint(0, len(other)) :]
        )


_WAYS = (
    Mutator.flip, Mutator.cut, Mutator.repeat, Mutator.truncate, Mutator.insert, Mutator.word,
    Mutator.word, Mutator.word, Mutator.cross,
)  # fmt: skip
