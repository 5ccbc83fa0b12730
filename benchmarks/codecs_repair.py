"""What one lost shard costs, Reed-Solomon beside a locally repairable code of the same size:
`python -m benchmarks.codecs_repair`.

Both make ten shards of six. Measured are encoding, decoding with two data shards lost, and making
one lost shard anew; and counted what each reads for the last, over all ten shards. Buffers are
reused and stripes go in turn, as in `benchmarks.codecs`.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.codecs import LOST, STRIPES_COUNT, Call, time_us
from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import (
    FAMILY_LRC_CAUCHY,
    FAMILY_RS_CAUCHY,
    CodecFactory,
    CodecProfile,
    ErasureCodec,
)
from objectio.erasure import ErasureCode
from objectio.limits import MIB
from objectio.testing.golden import seeded_shard

STRIPE_BYTES = 4 * MIB
DATA_SHARDS, PARITY_SHARDS = 6, 4


class Contender(NamedTuple):
    name: str
    codec: ErasureCodec


def contenders() -> Iterator[Contender]:
    """Those that are installed."""
    for name, module, factory, family in (
        ("RS 6+4", "objectio_ec_isal.codec", "IsalFactory", FAMILY_RS_CAUCHY),
        (
            "LRC 6+2+2",
            "objectio_ec_lrc.codec",
            "LrcFactory",
            FAMILY_LRC_CAUCHY.format(local_groups=2),
        ),
    ):
        try:
            opened: CodecFactory = getattr(importlib.import_module(module), factory)()
        except ImportError:
            continue
        yield Contender(name, opened.codec(CodecProfile(family, DATA_SHARDS, PARITY_SHARDS)))


def run(seconds: float = 0.3) -> dict[str, Any]:
    """Measure everything; each figure takes about `seconds`."""
    return {"repair": [_measure(contender, seconds) for contender in contenders()]}


def report(results: dict[str, Any]) -> str:
    """The table; GB/s of encoding and decoding are of user data, of rebuilding of what is made."""
    lines = [
        f"{'code':10} {'encode':>16} {'decode, 2 lost':>16} {'make one anew':>16} "
        f"{'shards read for one lost':>26} {'bytes read for one made':>24}"
    ]
    for row in results["repair"]:
        speeds = [
            f"{row[key]:7.0f} µs {size / row[key] / 1e3:5.2f}"
            for key, size in (
                ("encode_us", row["stripe_bytes"]),
                ("decode_us", row["stripe_bytes"]),
                ("rebuild_us", row["shard_bytes"]),
            )
        ]
        reads = ",".join(map(str, row["shards_read"]))
        lines.append(
            f"{row['code']:10} {speeds[0]:>16} {speeds[1]:>16} {speeds[2]:>16} {reads:>26} "
            f"{sum(row['shards_read']) / len(row['shards_read']):>24.2f}"
        )
    return "\n".join(lines)


def _measure(contender: Contender, seconds: float) -> dict[str, Any]:
    code = ErasureCode(contender.codec, ThreadModel.PARALLEL)
    length = code.shard_length(STRIPE_BYTES)
    encodes, decodes, rebuilds = [], [], []
    for number in range(STRIPES_COUNT):
        stripe = seeded_shard("bench", number, STRIPE_BYTES)
        buffer = memoryview(bytearray(stripe.ljust(code.k * length)))
        parity = memoryview(bytearray(code.m * length))
        encodes.append((buffer, STRIPE_BYTES, parity))
        shards = dict(enumerate(map(bytes, code.encode_stripe(buffer, STRIPE_BYTES, parity))))
        have = {index: shard for index, shard in shards.items() if index not in LOST}
        decodes.append((have, STRIPE_BYTES, memoryview(bytearray(code.m * length))))
        sources = {index: shards[index] for index in _reads(code, 0)}
        rebuilds.append((sources, {0: bytearray(length)}))
    return {
        "code": contender.name,
        "stripe_bytes": STRIPE_BYTES,
        "shard_bytes": length,
        "encode_us": time_us(_in_turn(code.encode_stripe, encodes), seconds),
        "decode_us": time_us(_in_turn(code.decode_stripe, decodes), seconds),
        "rebuild_us": time_us(_in_turn(contender.codec.reconstruct, rebuilds), seconds),
        "shards_read": [len(_reads(code, lost)) for lost in range(code.width)],
    }


def _reads(code: ErasureCode, lost: int) -> frozenset[int]:
    cost = {index: 1.0 for index in range(code.width) if index != lost}
    return code.minimum_to_decode({lost}, cost)


def _in_turn(function: Any, arguments: list[Any]) -> Call:
    turns = itertools.cycle(arguments)
    return lambda: function(*next(turns))


if __name__ == "__main__":
    print(report(run()))
