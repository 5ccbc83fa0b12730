"""Erasure codecs side by side: `python -m benchmarks.codecs`.

Three questions, for our ISA-L path (ctypes), pyeclib's own driver over the same library, zfec and
the pure-Python reference:

- how long does one stripe take to encode, and to decode when two data shards are lost;
- how fast is encoding while another Python thread computes;
- how far does that other thread get meanwhile: what holding the GIL costs everyone else.

Ours are measured through `ErasureCode`, as the stripe pipeline calls it, with buffers that are
reused. Sixteen stripes go in turn, so that those of 4 MiB come from memory: one stripe over and
over stays in the processor's cache and is several times faster than what a store will see.
"""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import (
    FAMILY_RS_CAUCHY,
    FAMILY_RS_VANDERMONDE,
    CodecFactory,
    CodecProfile,
)
from objectio.erasure import ErasureCode
from objectio.erasure.reference import ReferenceFactory
from objectio.limits import KIB, MIB
from objectio.testing.golden import seeded_shard

SIZES = ((4, 2), (8, 4))
STRIPES_BYTES = (4 * KIB, 4 * MIB)
LOST = (0, 1)
STRIPES_COUNT = 16

Call = Callable[[], object]


class Contender(NamedTuple):
    """`prepare(k, m, stripes)` gives two calls, each for the next stripe: encode, decode."""

    name: str
    prepare: Callable[[int, int, list[bytes]], tuple[Call, Call]]


def contenders() -> Iterator[Contender]:
    """Those that are installed."""
    yield from _of_plugin("isal, ctypes", "objectio_ec_isal.codec", "IsalFactory", FAMILY_RS_CAUCHY)
    try:
        importlib.import_module("pyeclib.ec_iface")
    except ImportError:
        pass
    else:
        yield Contender("isal, pyeclib", _prepare_pyeclib)
    yield from _of_plugin("zfec", "objectio_ec_zfec.codec", "ZfecFactory", FAMILY_RS_VANDERMONDE)
    yield Contender("reference", _preparer(ReferenceFactory(), FAMILY_RS_CAUCHY))


def run(seconds: float = 0.3) -> dict[str, Any]:
    """Measure everything; each figure takes about `seconds`."""
    rows: list[dict[str, Any]] = []
    for contender in contenders():
        for k, m in SIZES:
            for stripe_bytes in STRIPES_BYTES:
                stripes = [seeded_shard("bench", n, stripe_bytes) for n in range(STRIPES_COUNT)]
                encode, decode = contender.prepare(k, m, stripes)
                row = {
                    "codec": contender.name,
                    "size": f"{k}+{m}",
                    "stripe_bytes": stripe_bytes,
                    "encode_us": time_us(encode, seconds),
                    "decode_us": time_us(decode, seconds),
                }
                rows.append(row | _beside_a_loop(encode, seconds))
    return {"stripes": rows}


def report(results: dict[str, Any]) -> str:
    """The table; GB/s are of user data."""
    lines = [
        f"{'codec':14} {'k+m':>4} {'stripe':>7} {'encode':>19} {'decode, 2 lost':>19} "
        f"{'encode beside a loop':>21} {'the loop: M turns/s, of alone':>30}",
    ]
    for row in results["stripes"]:
        size, turns = row["stripe_bytes"], row["loop_turns_per_s"]
        speeds = [
            f"{row[key]:9.1f} µs {size / row[key] / 1e3:5.2f}"
            for key in ("encode_us", "decode_us", "encode_beside_us")
        ]
        unit = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
        share = turns / row["loop_turns_alone_per_s"]
        lines.append(
            f"{row['codec']:14} {row['size']:>4} {unit:>7} {speeds[0]:>19} {speeds[1]:>19} "
            f"{speeds[2]:>21} {turns / 1e6:>24.1f} {share:>5.0%}"
        )
    lines.append("speeds: time of one stripe, GB/s of user data")
    return "\n".join(lines)


def _of_plugin(name: str, module: str, factory: str, family: str) -> Iterator[Contender]:
    try:
        opened: CodecFactory = getattr(importlib.import_module(module), factory)()
    except ImportError:
        return
    yield Contender(name, _preparer(opened, family))


def _preparer(
    factory: CodecFactory, family: str
) -> Callable[[int, int, list[bytes]], tuple[Call, Call]]:
    def prepare(k: int, m: int, stripes: list[bytes]) -> tuple[Call, Call]:
        code = ErasureCode(factory.codec(CodecProfile(family, k, m)), ThreadModel.PARALLEL)
        size = len(stripes[0])
        length = code.shard_length(size)
        places, lossy = [], []
        for stripe in stripes:
            buffer = memoryview(bytearray(stripe.ljust(k * length)))
            parity = memoryview(bytearray(m * length))
            places.append((buffer, size, parity))
            shards = dict(enumerate(code.encode_stripe(buffer, size, parity)))
            have = {i: bytes(shard) for i, shard in shards.items() if i not in LOST}
            lossy.append((have, size, memoryview(bytearray(m * length))))
        encodes, decodes = itertools.cycle(places), itertools.cycle(lossy)
        return (
            lambda: code.encode_stripe(*next(encodes)),
            lambda: code.decode_stripe(*next(decodes)),
        )

    return prepare


def _prepare_pyeclib(k: int, m: int, stripes: list[bytes]) -> tuple[Call, Call]:
    iface = importlib.import_module("pyeclib.ec_iface")
    driver = iface.ECDriver(k=k, m=m, ec_type="isa_l_rs_cauchy")
    lossy = [
        [part for index, part in enumerate(driver.encode(stripe)) if index not in LOST]
        for stripe in stripes
    ]
    encodes, decodes = itertools.cycle(stripes), itertools.cycle(lossy)
    return lambda: driver.encode(next(encodes)), lambda: driver.decode(next(decodes))


def time_us(call: Call, seconds: float) -> float:
    """The mean of the fastest of three runs, in microseconds."""
    for _ in range(STRIPES_COUNT):
        call()  # fills caches of matrices, and touches every buffer
    best = float("inf")
    for _ in range(3):
        count = 0
        began = time.perf_counter()
        end = began + seconds / 3
        while (now := time.perf_counter()) < end or not count:
            call()
            count += 1
        best = min(best, (now - began) / count)
    return best * 1e6


class _Loop(threading.Thread):
    """Counts, in pure Python, until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turns = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            self.turns += 1

    def turns_per_s(self, during: Callable[[], None]) -> float:
        """How fast it counts while `during` runs in the calling thread."""
        began, before = time.perf_counter(), self.turns
        during()
        return (self.turns - before) / (time.perf_counter() - began)


def _beside_a_loop(call: Call, seconds: float) -> dict[str, float]:
    """Microseconds of one call, and the loop's turns in a second, while both run.

    The loop is also measured alone, just before and after: other work on the machine differs from
    minute to minute.
    """
    loop = _Loop()
    loop.start()
    before = loop.turns_per_s(lambda: time.sleep(seconds / 2))
    count = 0

    def work() -> None:
        nonlocal count
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            call()
            count += 1

    began = time.perf_counter()
    turns = loop.turns_per_s(work)
    took = time.perf_counter() - began
    after = loop.turns_per_s(lambda: time.sleep(seconds / 2))
    loop.stopped = True
    loop.join()
    return {
        "encode_beside_us": took / count * 1e6,
        "loop_turns_per_s": turns,
        "loop_turns_alone_per_s": (before + after) / 2,
    }


if __name__ == "__main__":
    print(report(run()))
