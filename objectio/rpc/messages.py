"""The heads of frames that are not a service's own, and exceptions as they cross the wire."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from objectio import errors
from objectio.errors import ObjectIOError, RemoteProtocolError, Unavailable

PROTOCOL_NAME: Final = "objectio-rpc"
_MESSAGE_CHARS_MAX: Final = 1_000
_FIELD_CHARS_MAX: Final = 500
_FIELDS_MAX: Final = 8
"""Together less than a head may have, whatever the characters."""

H = TypeVar("H")


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The client's first frame: who it is, whom it wants, and everything that it can speak."""

    protocol: str
    versions: list[int]
    methods: list[str]
    nonce: bytes
    role: str
    node: str
    wanted_role: str
    wanted_node: str
    capabilities: list[str]


class Challenge(msgspec.Struct, array_like=True, frozen=True):
    """The server's answer: what was chosen, and what this connection may have under way at once."""

    version: int
    method: str
    nonce: bytes
    role: str
    node: str
    capabilities: list[str]
    calls_max: int
    bytes_max: int


class Proof(msgspec.Struct, array_like=True, frozen=True):
    """Of PROOF and of READY."""

    mac: bytes


class Goodbye(msgspec.Struct, array_like=True, frozen=True):
    """Of GOAWAY: a word for programs, a sentence for people."""

    reason: str
    message: str


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """Of ERROR: an exception of `objectio.errors` by its name."""

    name: str
    message: str
    fields: dict[str, Any] = {}


_packer: Final = msgspec.msgpack.Encoder(enc_hook=str)
pack: Final = _packer.encode


class Unpacker:
    """Decodes one type; what is not of it is the peer's fault."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def __call__(self, raw: Any) -> Any:
        try:
            return self._decode(raw)
        except msgspec.DecodeError as error:
            raise RemoteProtocolError(f"a head that is none: {error}", reason="head") from None


unpack_hello: Final = Unpacker(Hello)
unpack_challenge: Final = Unpacker(Challenge)
unpack_proof: Final = Unpacker(Proof)
unpack_goodbye: Final = Unpacker(Goodbye)
unpack_failure: Final = Unpacker(Failure)


def _exceptions(root: type[ObjectIOError]) -> dict[str, type[ObjectIOError]]:
    found = {root.__name__: root}
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            found |= _exceptions(kind)
    return found


_BY_NAME: Final = _exceptions(ObjectIOError)


def pack_error(error: BaseException) -> bytes:
    """The head of an ERROR frame. What is no exception of ours is a bug over there: `Unavailable`,
    with its type and text for whoever reads the log."""
    if not isinstance(error, ObjectIOError):
        told = f"the peer failed: {type(error).__name__}: {error}"
        return pack(Failure("Unavailable", told[:_MESSAGE_CHARS_MAX]))
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _BY_NAME)
    fields = {
        key: value if _is_plain(value) else str(value)[:_FIELD_CHARS_MAX]
        for key, value in list(error.fields.items())[:_FIELDS_MAX]
    }
    return pack(Failure(name, error.message[:_MESSAGE_CHARS_MAX], fields))


def _is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return not isinstance(value, int) or -(2**63) <= value < 2**63
    return isinstance(value, str | bytes) and len(value) <= _FIELD_CHARS_MAX


def unpack_error(head: bytes) -> ObjectIOError:
    """The exception of an ERROR frame, fresh. Of a name that is not known here, `Unavailable`."""
    failure = unpack_failure(head)
    kind = _BY_NAME.get(failure.name)
    if kind is None:
        return Unavailable(f"{failure.name}: {failure.message}")
    try:
        return kind(failure.message, **failure.fields)
    except TypeError:  # a field is called as an argument is
        return kind(failure.message)
