"""The key ring: named keys, each with versions, in one JSON file that only its owner may read.

Theory of operation. A data key is wrapped by the newest version of a named key; the wrapped form says
by which, so that older versions open what they wrapped for as long as they are in the ring, and
rotating a key changes nothing that is stored. Nothing is ever taken out of a ring.

A wrapped data key is

    1 byte    format, 1
    16 bytes  id of the key's version
    32 bytes  salt
    48 bytes  AES-256-GCM of the data key

under a key of its own, HMAC-SHA-256(key, label ‖ salt), so that the number of data keys that one key
may wrap is not bounded by what random nonces of 12 bytes allow (NIST SP 800-38D §8.3). What is
authenticated besides is everything before the ciphertext, the name of the key, and the context.

The file is replaced as a whole, by a rename, so that a crash leaves the old or the new one. Who
changes it holds a lock on it; who reads it needs none.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from objectio.errors import AccessDenied, AlreadyExists, ConfigError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
FORMAT: Final = 1
DEFAULT_KEY: Final = "default"
RING_BYTES_MAX: Final = 16 * 1024 * 1024
CONTEXT_BYTES_MAX: Final = 16 * 1024

_ID_BYTES: Final = 16
_SALT_BYTES: Final = 32
_HEADER_BYTES: Final = 1 + _ID_BYTES + _SALT_BYTES
_WRAPPED_BYTES: Final = _HEADER_BYTES + KEY_BYTES + 16
_LABEL: Final = b"objectio key ring v1\0"
_NONCE: Final = bytes(12)  # the key is fresh, so the nonce need not be
_ARN: Final = re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]*:[0-9]*:(?:key|alias)/(.+)")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_+=,.@-]{0,127}")


class KeyVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`id` is 32 hexadecimal digits. Never show one of these."""

    id: str
    created_ms: int
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyVersion({self.id})"


class RingKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest version is the last."""

    versions: tuple[KeyVersion, ...]


class KeyRing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`id` names the ring, whatever becomes of its keys."""

    format: int
    id: str
    default: str
    keys: dict[str, RingKey]

    def key(self, key_id: str) -> tuple[str, RingKey]:
        """By name, or by an ARN or alias as AWS writes them, the end of which is the name."""
        name = key_name(key_id)
        try:
            return name, self.keys[name]
        except KeyError:
            raise NotFound(
                f"there is no key {key_id!r} in the key ring", kind="key", key_id=key_id
            ) from None


def key_name(key_id: str) -> str:
    """What a key is called in the ring: without "arn:aws:kms:…:key/" and "alias/"."""
    if found := _ARN.fullmatch(key_id):
        return found[1]
    return key_id.removeprefix("alias/")


# Changes.


def make_ring() -> KeyRing:
    return KeyRing(
        format=FORMAT,
        id=secrets.token_hex(_ID_BYTES),
        default=DEFAULT_KEY,
        keys={DEFAULT_KEY: RingKey(versions=(_make_version(),))},
    )


def with_key(ring: KeyRing, name: str) -> KeyRing:
    """The ring with one more key. Raises `AlreadyExists`, `InvalidRequest`."""
    if not _NAME.fullmatch(name) or key_name(name) != name:
        raise InvalidRequest(
            f"{name!r} cannot name a key: 1 to 128 of A-Z a-z 0-9 / _ + = , . @ -, and neither an "
            "ARN nor an alias",
            reason="InvalidArgument",
        )
    if name in ring.keys:
        raise AlreadyExists(f"there is a key {name} already", kind="key", key_id=name)
    keys = {**ring.keys, name: RingKey(versions=(_make_version(),))}
    return msgspec.structs.replace(ring, keys=keys)


def with_new_version(ring: KeyRing, name: str) -> KeyRing:
    """The ring with a fresh version of one key; what older ones wrapped still opens."""
    name, key = ring.key(name)
    fresh = RingKey(versions=(*key.versions, _make_version()))
    return msgspec.structs.replace(ring, keys={**ring.keys, name: fresh})


def with_default(ring: KeyRing, name: str) -> KeyRing:
    return msgspec.structs.replace(ring, default=ring.key(name)[0])


def _make_version() -> KeyVersion:
    return KeyVersion(
        id=secrets.token_hex(_ID_BYTES),
        created_ms=int(time.time() * 1000),
        secret=secrets.token_bytes(KEY_BYTES),
    )


# The file.


def read_ring(path: Path) -> KeyRing:
    """Raises FileNotFoundError, `ConfigError`."""
    with path.open("rb") as file:
        raw = file.read(RING_BYTES_MAX + 1)
    try:
        ring = msgspec.json.decode(raw, type=KeyRing)
        _check(ring)
    except (msgspec.MsgspecError, ValueError):
        # Without `from`: the chained error would quote the file, and with it keys.
        raise ConfigError(
            f"{path} is not a key ring, or a damaged one: restore it from a backup"
        ) from None
    return ring


def create_ring(path: Path) -> KeyRing:
    """A new one, or what another process that started at the same time has made."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = _write_beside(path, make_ring())
    try:
        # link, not rename: when two processes start at once, both must end with the same file.
        os.link(fresh, path)
    except (FileExistsError, FileNotFoundError):
        pass  # there is one, whose writer may have cleaned up after us
    finally:
        fresh.unlink(missing_ok=True)
        _sync_directory(path.parent)
    return read_ring(path)


def change_ring(path: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Replace the ring by what `change` makes of it; nothing happens if that raises."""
    with _locked(path):
        ring = change(read_ring(path))
        _check(ring)
        for left in path.parent.glob(f".{path.name}.*"):  # by writers that were killed
            left.unlink(missing_ok=True)
        fresh = _write_beside(path, ring)
        try:
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    return ring


def _check(ring: KeyRing) -> None:
    """Raises ValueError."""
    versions = [version for key in ring.keys.values() for version in key.versions]
    ids = {version.id for version in versions}
    if (
        ring.format != FORMAT
        or ring.default not in ring.keys
        or not all(key.versions for key in ring.keys.values())
        or any(len(version.secret) != KEY_BYTES for version in versions)
        or any(len(bytes.fromhex(name)) != _ID_BYTES for name in ids)
        or len(ids) != len(versions)
    ):
        raise ValueError(ring.format)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file that has the name now: another may have taken its place while we
    waited for the lock on the one before."""
    while True:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            held, there = os.fstat(fd), path.stat()
            if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
                yield
                return
        finally:
            os.close(fd)


def _write_beside(path: Path, ring: KeyRing) -> Path:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(ring), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Wrapping.


def wrap(ring: KeyRing, key_id: str, plain: bytes, context: Mapping[str, str]) -> bytes:
    """Raises `NotFound` (kind key)."""
    name, key = ring.key(key_id)
    version = key.versions[-1]
    header = bytes((FORMAT,)) + bytes.fromhex(version.id) + secrets.token_bytes(_SALT_BYTES)
    return header + _cipher(version, header).encrypt(_NONCE, plain, _bound(name, header, context))


def unwrap(ring: KeyRing, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Raises `NotFound` (kind key), `AccessDenied` if it does not open."""
    from cryptography.exceptions import InvalidTag

    name, key = ring.key(key_id)
    header = wrapped[:_HEADER_BYTES]
    if len(wrapped) != _WRAPPED_BYTES or header[0] != FORMAT:
        raise _does_not_open(key_id)
    wanted = header[1 : 1 + _ID_BYTES].hex()
    for version in key.versions:
        if version.id == wanted:
            break
    else:
        raise NotFound(
            f"version {wanted} of key {name!r} is not in the key ring: restore the ring that has it",
            kind="key",
            key_id=key_id,
        )
    try:
        return _cipher(version, header).decrypt(
            _NONCE, wrapped[_HEADER_BYTES:], _bound(name, header, context)
        )
    except InvalidTag:
        raise _does_not_open(key_id) from None


def _cipher(version: KeyVersion, header: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hmac.digest(version.secret, _LABEL + header[1 + _ID_BYTES :], hashlib.sha256))


def _bound(name: str, header: bytes, context: Mapping[str, str]) -> bytes:
    """What is authenticated besides, in one way only that it can be written."""
    said = json.dumps([name, sorted(context.items())], separators=(",", ":")).encode()
    if len(said) > CONTEXT_BYTES_MAX:
        raise InvalidRequest("the encryption context is too long", reason="InvalidArgument")
    return header + said


def _does_not_open(key_id: str) -> AccessDenied:
    return AccessDenied(f"the data key was not wrapped by key {key_id!r} for this", key_id=key_id)
