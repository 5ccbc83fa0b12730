"""Who may speak: a secret of the cluster, proved by both ends of each connection.

The nodes of a cluster share 32 random bytes. They never travel: each end sends a nonce, and an
HMAC-SHA-256 over everything that was said (`hmac-sha256-v1`), which covers both nonces, the versions
and methods that were offered and those that were chosen, the roles and names of both nodes, and what
TLS calls the channel binding. So a proof is of use on its own connection only, in its own direction,
and whoever changes a word of the handshake breaks it: nothing can be replayed, reflected, relayed
through another TLS session, or talked down to an older version.

The client proves first: a stranger learns a server's name and nothing else. There is no method
without a secret.

The two machines here are sans-IO: frames in, frames out.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from objectio.errors import ConfigError, RemoteProtocolError, Unauthenticated
from objectio.rpc import capabilities
from objectio.rpc.frames import PROTOCOL_VERSION, Encoded, Frame, Header, Kind, encode
from objectio.rpc.messages import (
    PROTOCOL_NAME,
    Challenge,
    Goodbye,
    Hello,
    Proof,
    pack,
    unpack_challenge,
    unpack_goodbye,
    unpack_hello,
    unpack_proof,
)

SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 32
METHOD: Final = "hmac-sha256-v1"
NAME_CHARS_MAX: Final = 128
LIST_ITEMS_MAX: Final = 32
_CLIENT_LABEL: Final = b"hmac-sha256-v1 client\0"
_SERVER_LABEL: Final = b"hmac-sha256-v1 server\0"


# The secret.


def make_secret(path: Path) -> bytes:
    """Make the secret of a new cluster: a file of 64 hexadecimal digits that only its owner reads.
    Raises `FileExistsError` rather than replace one."""
    secret = secrets.token_bytes(SECRET_BYTES)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return secret


def load_secret(path: Path) -> bytes:
    """Raises `ConfigError` for a file that others may read, or that holds something else."""
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4 * SECRET_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the secret of the cluster cannot be read from {path}: {error}"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}), and who reads it may "
            f"speak for any node: chmod 600 {path}, and think about a new secret"
        )
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"{path} does not hold a secret: {2 * SECRET_BYTES} hexadecimal digits")
    return secret


# The proofs.


class Binding(NamedTuple):
    """What ties a handshake to its TLS session; `none` where there is no TLS."""

    kind: str = "none"
    data: bytes = b""


NO_TLS: Final = Binding()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """This end. `secret` is never shown."""

    secret: bytes
    role: str
    node: str
    capabilities: tuple[str, ...] = capabilities.ALL

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise ConfigError(f"the secret of a cluster has {SECRET_BYTES} bytes")
        if not _is_name(self.role) or not _is_name(self.node):
            raise ConfigError("roles and nodes have names of 1 to 128 printable characters")

    def __repr__(self) -> str:
        return f"Identity(role={self.role!r}, node={self.node!r})"


class Peer(NamedTuple):
    """The other end, once it has proved that it has the secret. Role and node are what it says."""

    role: str
    node: str
    version: int
    capabilities: frozenset[str]


def transcript(hello: bytes, challenge: bytes, binding: Binding) -> bytes:
    """Everything that both ends must agree on; each part after its length."""
    parts = (PROTOCOL_NAME.encode(), hello, challenge, binding.kind.encode(), binding.data)
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def client_mac(secret: bytes, spoken: bytes) -> bytes:
    return hmac.digest(secret, _CLIENT_LABEL + spoken, "sha256")


def server_mac(secret: bytes, spoken: bytes) -> bytes:
    return hmac.digest(secret, _SERVER_LABEL + spoken, "sha256")


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_CHARS_MAX and name.isprintable()


def _check_lists(*lists: Sequence[object]) -> None:
    if any(len(each) > LIST_ITEMS_MAX for each in lists):
        raise RemoteProtocolError("a handshake that is too long", reason="malformed")


def _refused(message: str, reason: str) -> Unauthenticated:
    return Unauthenticated(message, reason=reason)


def goodbye(reason: str, message: str) -> Encoded:
    return encode(Header(Kind.GOAWAY), pack(Goodbye(reason, message)))


class ClientHandshake:
    """HELLO → CHALLENGE → PROOF → READY, the client's side. `peer` is set when it is through."""

    def __init__(
        self,
        identity: Identity,
        binding: Binding,
        wanted_role: str,
        wanted_node: str = "",
        needs: Collection[str] = (),
    ) -> None:
        self._secret = identity.secret
        self._binding = binding
        self._wanted = (wanted_role, wanted_node)
        self._hello = pack(
            Hello(
                PROTOCOL_NAME,
                [PROTOCOL_VERSION],
                [METHOD],
                secrets.token_bytes(NONCE_BYTES),
                identity.role,
                identity.node,
                wanted_role,
                wanted_node,
                list(identity.capabilities),
            )
        )
        self._capabilities = frozenset(identity.capabilities)
        self._needs = frozenset(needs)
        self._spoken = b""
        self._answer: Challenge | None = None
        self.peer: Peer | None = None
        self.calls_max = 0
        self.bytes_max = 0

    def begin(self) -> Encoded:
        return encode(Header(Kind.HELLO), self._hello)

    def receive(self, frame: Frame) -> list[Encoded]:
        """Raises `Unauthenticated` or `RemoteProtocolError`; the connection must then end."""
        kind = frame.header.kind
        if kind == Kind.GOAWAY:
            said = unpack_goodbye(frame.head)
            raise _refused(f"the server refused: {said.message}", said.reason)
        if kind == Kind.CHALLENGE and self._answer is None:
            return self._challenged(frame.head)
        if kind == Kind.READY and self._answer is not None:
            self._ready(frame.head, self._answer)
            return []
        raise RemoteProtocolError("a frame that does not belong here", reason="handshake")

    def _challenged(self, head: bytes) -> list[Encoded]:
        answer: Challenge = unpack_challenge(head)
        if answer.version != PROTOCOL_VERSION:
            raise _refused("the server chose a version that was not offered", "version")
        if answer.method != METHOD:
            raise _refused("the server chose a method that was not offered", "method")
        if len(answer.nonce) != NONCE_BYTES or answer.calls_max < 1 or answer.bytes_max < 1:
            raise RemoteProtocolError("a challenge that is none", reason="malformed")
        _check_lists(answer.capabilities)
        role, node = self._wanted
        if answer.role != role or (node and answer.node != node):
            raise _refused(
                f"wanted {role} {node}, and {answer.role} {answer.node} answered", "wanted"
            )
        self._answer = answer
        self._spoken = transcript(self._hello, head, self._binding)
        return [encode(Header(Kind.PROOF), pack(Proof(client_mac(self._secret, self._spoken))))]

    def _ready(self, head: bytes, answer: Challenge) -> None:
        mac = unpack_proof(head).mac
        if not hmac.compare_digest(mac, server_mac(self._secret, self._spoken)):
            raise _refused("the server does not know the secret of this cluster", "proof")
        if lacking := self._needs.difference(answer.capabilities):
            raise _refused(
                f"{answer.role} {answer.node} is of a release without {', '.join(sorted(lacking))}",
                "capability",
            )
        self.calls_max = answer.calls_max
        self.bytes_max = answer.bytes_max
        self.peer = Peer(
            answer.role,
            answer.node,
            answer.version,
            self._capabilities.intersection(answer.capabilities),
        )


class ServerHandshake:
    """The server's side."""

    def __init__(
        self,
        identity: Identity,
        binding: Binding,
        *,
        roles: frozenset[str],
        calls_max: int,
        bytes_max: int,
    ) -> None:
        self._identity = identity
        self._binding = binding
        self._roles = roles
        self._limits = (calls_max, bytes_max)
        self._hello: Hello | None = None
        self._spoken = b""
        self.peer: Peer | None = None

    def receive(self, frame: Frame) -> list[Encoded]:
        """Raises `Unauthenticated` or `RemoteProtocolError`; the connection must then end."""
        kind = frame.header.kind
        if kind == Kind.HELLO and self._hello is None:
            return self._greeted(frame.head)
        if kind == Kind.PROOF and self._hello is not None:
            return self._proved(frame.head, self._hello)
        if kind == Kind.GOAWAY:
            said = unpack_goodbye(frame.head)
            raise _refused(f"the client refused: {said.message}", said.reason)
        raise RemoteProtocolError("a frame that does not belong here", reason="handshake")

    def _greeted(self, head: bytes) -> list[Encoded]:
        hello: Hello = unpack_hello(head)
        identity = self._identity
        if hello.protocol != PROTOCOL_NAME or len(hello.nonce) != NONCE_BYTES:
            raise RemoteProtocolError("a hello that is none", reason="malformed")
        _check_lists(hello.versions, hello.methods, hello.capabilities)
        if PROTOCOL_VERSION not in hello.versions:
            raise _refused(f"this node speaks version {PROTOCOL_VERSION}", "version")
        if METHOD not in hello.methods:
            raise _refused(f"this node wants a proof by {METHOD}", "method")
        if not _is_name(hello.role) or not _is_name(hello.node):
            raise RemoteProtocolError("a role or node without a name", reason="malformed")
        if hello.role not in self._roles:
            raise _refused("this node does not serve that role", "role")
        if hello.wanted_role != identity.role or hello.wanted_node not in ("", identity.node):
            raise _refused("this node is not the one that is wanted", "wanted")
        challenge = pack(
            Challenge(
                PROTOCOL_VERSION,
                METHOD,
                secrets.token_bytes(NONCE_BYTES),
                identity.role,
                identity.node,
                list(identity.capabilities),
                *self._limits,
            )
        )
        self._hello = hello
        self._spoken = transcript(head, challenge, self._binding)
        return [encode(Header(Kind.CHALLENGE), challenge)]

    def _proved(self, head: bytes, hello: Hello) -> list[Encoded]:
        secret = self._identity.secret
        mac = unpack_proof(head).mac
        if not hmac.compare_digest(mac, client_mac(secret, self._spoken)):
            raise _refused("the proof is not one of this cluster's secret", "proof")
        self.peer = Peer(
            hello.role,
            hello.node,
            PROTOCOL_VERSION,
            frozenset(self._identity.capabilities).intersection(hello.capabilities),
        )
        return [encode(Header(Kind.READY), pack(Proof(server_mac(secret, self._spoken))))]
