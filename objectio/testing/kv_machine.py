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
    st.just(Shown(b"")),
    st.binary(max_size=8).map(Shown),
    st.integers(0, 20_000).map(lambda size: Shown(b"v" * size)),
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
        self.written: list[Shown] = []
        self.driver = type(self).open_driver()
        while found := self.driver.scan(b"", KEY_END, limit=KV_SCAN_ROWS_MAX):
            self.driver.commit([Commit([], [(key, None) for key, _ in found])])

    def _draw_key(self, data: Any) -> bytes:
        """A key, mostly one that was written before: keys that never meet find no faults."""
        known = st.sampled_from(self.written) if self.written else keys
        return bytes(data.draw(st.one_of(known, known, any_keys)))

    def _draw_range(self, data: Any) -> tuple[bytes, bytes]:
        if data.draw(st.booleans()):
            start, stop = data.draw(ranges)
            return bytes(start), bytes(stop)
        start, stop = self._draw_key(data), self._draw_key(data)
        return min(start, stop), max(start, stop)

    def _draw_check(self, data: Any) -> Check:
        kind = data.draw(st.sampled_from(["absent", "present", "equals", "same", "range"]))
        if kind == "range":
            return RangeEmpty(*self._draw_range(data))
        key = self._draw_key(data)
        if kind == "absent":
            return Absent(key)
        if kind == "present":
            return Present(key)
        if kind == "equals":
            return Equals(key, bytes(data.draw(values)))
        value = self.model.get(key)  # so that checks hold often
        return Absent(key) if value is None else Equals(key, value)

    def _draw_writes(self, data: Any) -> list[tuple[bytes, bytes | None]]:
        writes: dict[bytes, bytes | None] = {}
        for _ in range(data.draw(st.integers(0, 4))):
            value = data.draw(st.one_of(st.none(), values, values))
            writes[self._draw_key(data)] = None if value is None else bytes(value)
        self.written += map(Shown, writes)
        return list(writes.items())

    @rule(data=st.data(), size=st.integers(1, 4))
    def commit(self, data: Any, size: int) -> None:
        batch = []
        for _ in range(size):
            checks = [self._draw_check(data) for _ in range(data.draw(st.integers(0, 2)))]
            batch.append(Commit(checks, self._draw_writes(data)))
        found, want = self.driver.commit(batch), self.model.commit(batch)
        # Checks are tuples, and of two kinds with equal fields the tuples are equal.
        assert [(type(check), check) for check in found] == [(type(check), check) for check in want]

    @rule(data=st.data())
    def get(self, data: Any) -> None:
        key = self._draw_key(data)
        assert self.driver.get(key) == self.model.get(key)

    @rule(data=st.data(), size=st.integers(0, 5))
    def get_many(self, data: Any, size: int) -> None:
        wanted = [self._draw_key(data) for _ in range(size)]
        assert self.driver.get_many(wanted) == self.model.get_many(wanted)

    @rule(data=st.data(), reverse=st.booleans(), limit=st.integers(1, 12))
    def scan(self, data: Any, reverse: bool, limit: int) -> None:
        start, stop = self._draw_range(data)
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
