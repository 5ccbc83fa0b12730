"""A model machine for key-value drivers: whatever is done, they answer as the memory engine does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from objectio.abc.kv import Absent, Check, Commit, Equals, KVDriver, Present, RangeEmpty
from objectio.kv.keys import KEY_END
from objectio.kv.memory import MemoryKV
from objectio.limits import KV_KEY_BYTES_MAX, KV_SCAN_ROWS_MAX


class Shown(bytes):
    """Bytes that a failing example shows in a few characters. Drivers get plain bytes."""

    def __repr__(self) -> str:
        run = len(self) - len(self.lstrip(self[:1]))
        if run < 16:
            return super().__repr__()
        return f"{self[:1]!r} * {run} + {self[run:]!r}"


_ALPHABET = b"\x00\x01\x02\x7fab\xfe\xff"
# Long heads meet engines whose keys are short, in lengths around theirs (480, 511, 512, 1024, 4096).
_HEADS = [
    Shown(byte * length)
    for byte, length in [
        (b"", 1),
        (b"", 2),  # short keys are drawn more often, so that they meet
        (b"", 3),
        (b"a", 255),
        (b"a", 479),
        (b"a", 480),
        (b"a", 510),
        (b"a", 960),
        (b"\x00", 511),
        (b"\x00", 1024),
        (b"\xff", 960),
        (b"b", KV_KEY_BYTES_MAX - 2),
        (b"\xff", KV_KEY_BYTES_MAX - 2),
    ]
]

tails = st.lists(st.sampled_from(_ALPHABET), max_size=3).map(bytes)
bounds = st.builds(
    lambda head, tail: Shown((head + tail)[:KV_KEY_BYTES_MAX]), st.sampled_from(_HEADS), tails
)
keys = bounds.filter(bool)
any_keys = st.one_of(keys, st.binary(min_size=1, max_size=40).map(Shown))
values = st.one_of(
    st.binary(max_size=8).map(Shown), st.integers(0, 20_000).map(lambda size: Shown(b"v" * size))
)
ranges = st.one_of(
    st.tuples(bounds, bounds).map(lambda pair: (min(pair), max(pair))),
    st.tuples(bounds, bounds),
    st.tuples(bounds, st.just(Shown(KEY_END))),
)


class KVStateMachine(RuleBasedStateMachine):
    """Subclass with `open_driver`, or have `kv_state_machine` do it. Any rows found are removed."""

    open_driver: ClassVar[Callable[[], KVDriver]]
    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.model = MemoryKV()
        self.driver = type(self).open_driver()
        while found := self.driver.scan(b"", KEY_END, limit=KV_SCAN_ROWS_MAX):
            self.driver.commit([Commit([], [(key, None) for key, _ in found])])

    def _draw_check(self, data: Any) -> Check:
        key = bytes(data.draw(keys))
        kind = data.draw(st.sampled_from(["absent", "present", "equals", "same", "range"]))
        if kind == "absent":
            return Absent(key)
        if kind == "present":
            return Present(key)
        if kind == "equals":
            return Equals(key, bytes(data.draw(values)))
        if kind == "range":
            start, stop = data.draw(ranges)
            return RangeEmpty(bytes(start), bytes(stop))
        value = self.model.get(key)  # so that checks hold often
        return Absent(key) if value is None else Equals(key, value)

    @rule(data=st.data(), size=st.integers(1, 4))
    def commit(self, data: Any, size: int) -> None:
        rows = st.dictionaries(any_keys, st.one_of(st.none(), values, values), max_size=5)
        batch = []
        for _ in range(size):
            checks = [self._draw_check(data) for _ in range(data.draw(st.integers(0, 2)))]
            writes = [
                (bytes(key), None if value is None else bytes(value))
                for key, value in data.draw(rows).items()
            ]
            batch.append(Commit(checks, writes))
        found, want = self.driver.commit(batch), self.model.commit(batch)
        # Checks are tuples, and of two kinds with equal fields the tuples are equal.
        assert [(type(check), check) for check in found] == [(type(check), check) for check in want]

    @rule(key=any_keys)
    def get(self, key: bytes) -> None:
        assert self.driver.get(bytes(key)) == self.model.get(key)

    @rule(wanted=st.lists(keys, max_size=6))
    def get_many(self, wanted: list[bytes]) -> None:
        found = self.driver.get_many([bytes(key) for key in wanted])
        assert found == self.model.get_many(wanted)

    @rule(span=ranges, reverse=st.booleans(), limit=st.integers(1, 12))
    def scan(self, span: tuple[bytes, bytes], reverse: bool, limit: int) -> None:
        start, stop = map(bytes, span)
        found = self.driver.scan(start, stop, reverse=reverse, limit=limit)
        assert found == self.model.scan(start, stop, reverse=reverse, limit=limit)

    @rule(reverse=st.booleans())
    def scan_all(self, reverse: bool) -> None:
        found = self.driver.scan(b"", KEY_END, reverse=reverse, limit=KV_SCAN_ROWS_MAX)
        assert found == self.model.scan(b"", KEY_END, reverse=reverse, limit=KV_SCAN_ROWS_MAX)

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self.driver.close()
        self.driver = type(self).open_driver()
        self.scan_all(reverse=False)

    def teardown(self) -> None:
        try:
            self.scan_all(reverse=False)
        finally:
            self.driver.close()


def kv_state_machine(open_driver: Callable[[], KVDriver], *, durable: bool) -> type[KVStateMachine]:
    """The machine for one store."""
    namespace = {"open_driver": staticmethod(open_driver), "durable": durable}
    return type("DriverStateMachine", (KVStateMachine,), namespace)
