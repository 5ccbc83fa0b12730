"""The gate of the control plane: no proof, no call. What is refused is counted.

A `Gate` is of a server, a `Visitor` of one of its connections: challenges that were given on one
connection are not known on any other.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from objectio.abc.metrics import Metrics
from objectio.abc.orders import OrderLog
from objectio.errors import AccessDenied, AccessError, Unauthenticated, Unavailable
from objectio.rpc.auth import NAME_CHARS_MAX, NO_TLS, Binding
from objectio.rpc.control.proof import (
    HEADER,
    Caller,
    Challenge,
    answer_mac,
    call_mac,
    parse_proof,
)
from objectio.rpc.control.roles import ADMIN, MAY_CALL, ORDERS, PROCESSES

CHALLENGE_SECONDS: Final = 3600.0
CHALLENGES_MAX: Final = 16
"""Of one connection; the oldest goes."""

AccessKeys = Callable[[str], str | None]
"""The secret key of an access key that may administer the cluster; None for any other."""

_log: Final = logging.getLogger("objectio.control")


class Admitted(NamedTuple):
    """A call that may be made; `answer_proof` makes what its answer carries."""

    caller: Caller
    key: bytes
    mac: bytes

    def answer_proof(self, answer: bytes) -> str:
        return answer_mac(self.key, self.mac, answer).hex()


class Gate:
    def __init__(
        self,
        secret: bytes,
        access_keys: AccessKeys,
        metrics: Metrics,
        orders: Callable[[], OrderLog | None] = lambda: None,
    ) -> None:
        self._orders = orders
        self.refused: dict[str, int] = {}
        """By reason: proof missing, malformed, or wrong; challenge of another connection, or too
        old; counter replayed; binding to TLS missing or wrong; role."""
        self._secret = secret
        self._access_keys = access_keys
        self._metrics = metrics

    def key_of(self, caller: Caller) -> bytes | None:
        """Asked for with each call: a key that was revoked is of no use from then on."""
        if caller.role in PROCESSES:
            return self._secret
        secret = self._access_keys(caller.name) if caller.role == ADMIN else None
        return None if secret is None else secret.encode()

    def count(self, address: str, error: AccessError, method: str = "") -> None:
        with contextlib.suppress(Unavailable):
            if (log := self._orders()) is not None:
                claimed = str(error.fields.get("access_key", ""))
                code = str(error.fields["reason"])
                log.deny_order(ORDERS.get(method, method), claimed, address, code)
        reason = str(error.fields["reason"])
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self._metrics.counter(
            "objectio_control_refused_total",
            "Calls of the control plane that were refused.",
            reason=reason,
        ).inc()
        _log.warning("refused a call from %s (%s): %s", address, reason, error)


class Visitor:
    """One connection. `binding` is that of its TLS session."""

    def __init__(self, gate: Gate, address: str, binding: Binding) -> None:
        self.proved = False
        """Somebody who may call something is at the other end."""
        self._gate = gate
        self.address = address
        self._binding = binding
        self._challenges: OrderedDict[bytes, Challenge] = OrderedDict()

    def challenge(self, role: str, name: str) -> Challenge:
        """Whether there is such a name is not told."""
        if role not in PROCESSES and role != ADMIN:
            raise self._refused(Unauthenticated("there is no such role", reason="role"))
        if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise self._refused(Unauthenticated("a name that is none", reason="malformed"))
        given = Challenge(Caller(role, name), time.monotonic() + CHALLENGE_SECONDS)
        self._challenges[given.nonce] = given
        if len(self._challenges) > CHALLENGES_MAX:
            self._challenges.popitem(last=False)
        return given

    def admit(self, method: str, metadata: Mapping[str, str | bytes], request: bytes) -> Admitted:
        """For calls that need a proof. Raises `Unauthenticated` or `AccessDenied`."""
        allowed = MAY_CALL.get(method, frozenset())
        try:
            admitted = self._verify(method, metadata.get(HEADER), request)
            if admitted.caller.role not in allowed:
                raise AccessDenied(f"{admitted.caller.role} may not call {method}", reason="role")
        except AccessError as error:
            raise self._refused(error, method) from None
        self.proved = True
        return admitted

    def _verify(self, method: str, text: str | bytes | None, request: bytes) -> Admitted:
        if not isinstance(text, str):
            raise Unauthenticated("prove who you are: see Access.Challenge", reason="missing")
        proof = parse_proof(text)
        challenge = self._challenges.get(proof.nonce)
        if challenge is None or challenge.expires < time.monotonic():
            raise Unauthenticated(
                "no challenge of this connection, or an old one: ask for another one",
                reason="challenge",
            )
        caller = challenge.caller
        binding = self._binding_for(caller, proof.binding)
        key = self._gate.key_of(caller)
        # For a name that does not exist as much is computed as for one that does.
        mac = call_mac(key or b"-", method, caller, proof.nonce, proof.counter, request, binding)
        if not hmac.compare_digest(mac, proof.mac) or key is None:
            raise Unauthenticated(
                "the proof is not of this call by a known secret",
                reason="proof",
                access_key=caller.name,
            )
        if not challenge.counters.take(proof.counter):
            raise Unauthenticated("the counter of this proof was taken before", reason="replay")
        return Admitted(caller, key, mac)

    def _binding_for(self, caller: Caller, kind: str) -> Binding:
        """People's clients in other languages cannot always know their TLS session; processes of
        the cluster can, and must tell."""
        if kind == self._binding.kind:
            return self._binding
        if kind == NO_TLS.kind and caller.role == ADMIN:
            return NO_TLS
        raise Unauthenticated("the proof is not bound to this TLS session", reason="binding")

    def _refused(self, error: AccessError, method: str = "") -> AccessError:
        self._gate.count(self.address, error, method)
        return error
