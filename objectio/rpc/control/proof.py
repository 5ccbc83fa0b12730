"""Proofs of calls: what is computed from what. Both ends, sans-IO.

A server gives each connection that asks a challenge: 32 random bytes for a role and a name, of use on
that connection only. Each call then carries, in its metadata,

    authorization: ObjectIO-HMAC-SHA256-V1 nonce=…,counter=…,binding=…,mac=…

where `mac` is an HMAC-SHA-256 over the method, the role and the name, the challenge, a counter, what
TLS calls the channel binding, and the bytes of the request. The key is the secret of the cluster, or
the secret key of a person's access key; it never travels. A counter is taken once, so a call that
was heard can be made again neither here nor elsewhere, nor as another one. The answer to a unary call
carries, in its trailing metadata, a proof that whoever answers has the key too:

    objectio-proof: an HMAC-SHA-256 over the call's and the bytes of the answer
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from objectio.errors import Unauthenticated
from objectio.rpc.auth import NO_TLS, NONCE_BYTES, Binding

SCHEME: Final = "ObjectIO-HMAC-SHA256-V1"
METHOD: Final = "hmac-sha256-v1"
HEADER: Final = "authorization"
ANSWER_HEADER: Final = "objectio-proof"
COUNTER_MAX: Final = 2**63 - 1
WINDOW: Final = 1024
"""Calls of one challenge may overtake each other by so many."""
_CALL_LABEL: Final = b"objectio control v1 call\0"
_ANSWER_LABEL: Final = b"objectio control v1 answer\0"
_SHAPE: Final = re.compile(
    rf"{SCHEME} nonce=([0-9a-f]{{{2 * NONCE_BYTES}}}),counter=(0|[1-9][0-9]{{0,18}}),"
    r"binding=([a-z-]{1,32}),mac=([0-9a-f]{64})"
)


class Caller(NamedTuple):
    """Who a proof is of."""

    role: str
    name: str


def call_mac(
    key: bytes,
    method: str,
    caller: Caller,
    nonce: bytes,
    counter: int,
    request: bytes,
    binding: Binding = NO_TLS,
) -> bytes:
    """`method` is the path of HTTP/2, `/objectio.v1.Cluster/Status`. Each part stands after its
    length."""
    return hmac.digest(
        key,
        _CALL_LABEL
        + _joined(
            method.encode(),
            caller.role.encode(),
            caller.name.encode(),
            nonce,
            counter.to_bytes(8, "little"),
            binding.kind.encode(),
            binding.data,
            request,
        ),
        "sha256",
    )


def answer_mac(key: bytes, mac: bytes, answer: bytes) -> bytes:
    """`mac` is that of the call."""
    return hmac.digest(key, _ANSWER_LABEL + _joined(mac, answer), "sha256")


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


class Proof(NamedTuple):
    """As it travels. `binding` is the kind of channel binding that was used, or none."""

    nonce: bytes
    counter: int
    binding: str
    mac: bytes

    def __str__(self) -> str:
        return (
            f"{SCHEME} nonce={self.nonce.hex()},counter={self.counter},"
            f"binding={self.binding},mac={self.mac.hex()}"
        )


def parse_proof(text: str) -> Proof:
    found = _SHAPE.fullmatch(text)
    if found is None or int(found[2]) > COUNTER_MAX:
        raise Unauthenticated(f"{HEADER} is no proof: see Access.Challenge", reason="malformed")
    return Proof(bytes.fromhex(found[1]), int(found[2]), found[3], bytes.fromhex(found[4]))


@dataclass(slots=True)
class Counters:
    """Numbers that were taken: each one once, and none that is far behind the highest."""

    highest: int = -1
    taken: int = 0
    """A bit for each of the last ones, the highest one's is the lowest."""

    def take(self, counter: int) -> bool:
        ahead = counter - self.highest
        if ahead > 0:
            self.taken = ((self.taken << min(ahead, WINDOW)) | 1) & ((1 << WINDOW) - 1)
            self.highest = counter
            return True
        if ahead <= -WINDOW or self.taken >> -ahead & 1:
            return False
        self.taken |= 1 << -ahead
        return True


@dataclass(slots=True)
class Challenge:
    """One that was given, on the server's side."""

    caller: Caller
    expires: float
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES))
    counters: Counters = field(default_factory=Counters)


@dataclass(slots=True)
class Prover:
    """The caller's side of a challenge. `key` is never shown."""

    key: bytes = field(repr=False)
    caller: Caller
    nonce: bytes
    expires: float
    binding: Binding = NO_TLS
    counter: int = 0

    @property
    def is_fresh(self) -> bool:
        return self.expires > time.monotonic()

    def prove(self, method: str, request: bytes) -> Proof:
        counter, self.counter = self.counter, self.counter + 1
        mac = call_mac(self.key, method, self.caller, self.nonce, counter, request, self.binding)
        return Proof(self.nonce, counter, self.binding.kind, mac)

    def check_answer(self, proof: Proof, text: str | None, answer: bytes) -> None:
        """`text` is what the trailing metadata say."""
        wanted = answer_mac(self.key, proof.mac, answer).hex()
        if text is None or not hmac.compare_digest(text.encode(), wanted.encode()):
            raise Unauthenticated(
                "what answered does not know the secret that the call was proved with",
                reason="answer",
            )
