"""Golden vectors: what a codec family's bytes were when they were first written, and must stay.

The inputs are described rather than stored: data shard i of a vector is the first `length` bytes
of SHAKE-128 (FIPS 202) over the ASCII text "<seed>/<i>". The recorded outputs are the parity
shards, as SHA-256 and XXH3-64 digests and, where they are short, in full.

`python -m objectio.testing.golden FAMILY` writes the document of a family that the kernel does to
standard output; `vectors/PROVENANCE.md` says what the recorded ones were checked against.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import xxhash

from objectio.abc.erasure import FAMILY_REPLICATE, CodecProfile, ErasureCodec
from objectio.erasure.reference import ReferenceFactory
from objectio.erasure.replicate import ReplicateFactory

HEX_BYTES_MAX: Final = 65
LENGTHS: Final = (1, 65, 4097)
SIZES: Final = ((4, 2), (6, 3), (8, 4), (2, 1), (1, 1), (10, 4), (17, 3), (1, 5), (44, 20))
REPLICATE_SIZES: Final = ((1, 1), (1, 2), (1, 4))


def seeded_shard(seed: str, index: int, length: int) -> bytes:
    """The bytes that stand behind `seed` and `index`."""
    return hashlib.shake_128(f"{seed}/{index}".encode("ascii")).digest(length)


def seeded_data(profile: CodecProfile, length: int, seed: str = "objectio") -> list[bytes]:
    """The k data shards that `seed` stands for."""
    return [seeded_shard(seed, index, length) for index in range(profile.data_shards)]


def describe_shard(shard: bytes) -> dict[str, str]:
    """How a vector records a shard."""
    digests = {
        "sha256": hashlib.sha256(shard).hexdigest(),
        "xxh3_64": xxhash.xxh3_64_hexdigest(shard),
    }
    return digests | ({"hex": shard.hex()} if len(shard) <= HEX_BYTES_MAX else {})


def golden_vectors(family: str) -> list[dict[str, Any]]:
    """The recorded vectors of a family; empty for an unknown one."""
    path = resources.files("objectio.testing") / "vectors" / f"{family}.json"
    if not path.is_file():
        return []
    vectors: list[dict[str, Any]] = json.loads(path.read_text("ascii"))["vectors"]
    return vectors


def make_vector(codec: ErasureCodec, length: int) -> dict[str, Any]:
    """What `codec` makes of the seeded data today."""
    profile = codec.profile
    seed = f"{profile}/{length}"
    parity = [bytearray(length) for _ in range(profile.parity_shards)]
    codec.encode(seeded_data(profile, length, seed), parity)
    return {
        "data_shards": profile.data_shards,
        "parity_shards": profile.parity_shards,
        "length": length,
        "seed": seed,
        "parity": [describe_shard(bytes(shard)) for shard in parity],
    }


def document(family: str, sizes: Sequence[tuple[int, int]]) -> str:
    """The JSON document of a family, one vector in a line."""
    factory = ReplicateFactory() if family == FAMILY_REPLICATE else ReferenceFactory()
    vectors = [
        json.dumps(make_vector(factory.codec(CodecProfile(family, k, m)), length))
        for k, m in sizes
        for length in LENGTHS
    ]
    return f'{{"family": "{family}", "vectors": [\n' + ",\n".join(vectors) + "\n]}\n"


def sizes_of(family: str) -> Sequence[tuple[int, int]]:
    """(k, m) of the vectors that are recorded of a family."""
    return REPLICATE_SIZES if family == FAMILY_REPLICATE else SIZES


if __name__ == "__main__":
    sys.stdout.write(document(sys.argv[1], sizes_of(sys.argv[1])))
