"""The key manager of the kernel: a key ring in a file on this machine.

Every process reads the file for itself, and again when another one has taken its place, so that a key
that was made or rotated is there for the next request. All processes of a cluster must have the same
file; the first that has the metadata makes it, once.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from objectio.abc.admin import Finding
from objectio.abc.context import Context
from objectio.abc.driver import Driver, ThreadModel
from objectio.abc.kms import DataKey, KeyManager
from objectio.errors import ConfigError, DriverUnavailable, Unavailable
from objectio.kms.keyring import KEY_BYTES, KeyRing, create_ring, read_ring, unwrap, wrap

KEY_RING_FILE: Final = "keyring.json"


class LocalKmsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key ring in a file. Whoever has it reads everything; who loses it loses everything."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The key ring, a file that only its owner may read; relative to "
            "`node.data_dir`. Made with a new cluster; other machines need a copy.",
        ),
    ] = KEY_RING_FILE


class LocalKeys:
    """An `objectio.abc.kms.KeyManager`."""

    def __init__(self, path: Path, context: Context) -> None:
        self.path = path
        self._log = context.log
        self._key_set: str | None = None
        self._ring: KeyRing | None = None
        self._seen: tuple[int, int, int] | None = None
        self._said = ""

    async def start(self, key_set: str | None) -> str:
        if key_set is None:
            if not self.path.exists():
                create_ring(self.path)
                self._log.info(
                    "made the key ring %s: keep a copy of it. Without it nothing that is encrypted "
                    "can ever be read",
                    self.path,
                )
            self._key_set = read_ring(self.path).id
            return self._key_set
        self._key_set = key_set
        try:
            self._current()
        except Unavailable:
            pass  # was logged; it may be brought here
        return key_set

    @property
    def default_key(self) -> str:
        return self._current().default

    async def generate(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        plain = secrets.token_bytes(KEY_BYTES)
        return DataKey(plain, wrap(self._current(), key_id, plain, context), key_id)

    async def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        return unwrap(self._current(), key_id, wrapped, context)

    async def keys(self) -> Sequence[str]:
        return sorted(self._current().keys)

    def findings(self) -> Sequence[Finding]:
        found = []
        try:
            mode = self.path.stat().st_mode & 0o777
            ring = read_ring(self.path)
            if self._key_set is not None and ring.id != self._key_set:
                raise self._astray(ring.id)
        except (OSError, ConfigError) as error:
            return [_lost(self.path, error)]
        if mode & 0o077:
            found.append(_open_to_others(self.path, mode))
        return found

    async def close(self) -> None:
        self._ring = self._key_set = self._seen = None

    def _current(self) -> KeyRing:
        """The ring in the file, read again when that is another one. Raises `Unavailable`."""
        if self._key_set is None:
            raise Unavailable("the key ring is not open yet")
        try:
            found = os.stat(self.path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._ring is None or seen != self._seen:
                self._ring, self._seen = self._read(found.st_mode), seen
        except FileNotFoundError:
            raise self._missing(f"the key ring {self.path} is missing") from None
        except (OSError, ConfigError) as error:
            raise self._missing(f"the key ring cannot be read: {error}") from None
        return self._ring

    def _read(self, mode: int) -> KeyRing:
        ring = read_ring(self.path)
        if ring.id != self._key_set:
            raise self._astray(ring.id)
        if mode & 0o077:
            self._log.warning("%s can be read by others: chmod 600 it", self.path)
        self._said = ""
        return ring

    def _astray(self, ring_id: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is the key ring {ring_id}, and this cluster's is {self._key_set}"
        )

    def _missing(self, what: str) -> Unavailable:
        if what != self._said:
            self._log.error(
                "%s: what is encrypted cannot be read or written until it is back", what
            )
            self._said = what
        self._ring = self._seen = None
        return Unavailable(what)


def _lost(path: Path, error: Exception) -> Finding:
    return Finding(
        severity="critical",
        what=f"The key ring {path} cannot be used: {error}.",
        meaning="Nothing that is encrypted can be read or written, and no user but the root be "
        "recognised. If there is no copy of it, all of that is lost.",
        action="Bring it back from a backup; running servers take it up by themselves.",
    )


def _open_to_others(path: Path, mode: int) -> Finding:
    return Finding(
        severity="warning",
        what=f"The key ring {path} may be read by others (mode {mode:04o}).",
        meaning="Whoever has it can read everything that is encrypted, given the disks.",
        action=f"chmod 600 {path}; if others have used this machine, rotate its keys (objectio kms "
        "rotate) and write anew what must stay secret.",
    )


def _open(config: LocalKmsConfig, context: Context) -> KeyManager:
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError as error:
        raise DriverUnavailable(f"the key ring needs the package cryptography: {error}") from error
    return LocalKeys(context.data_dir / config.path, context)


DRIVER: Driver[LocalKmsConfig, KeyManager] = Driver(
    name="local",
    config=LocalKmsConfig,
    open=_open,
    summary="A ring of keys in a file of the node",
    rank=50,
    threads=ThreadModel.PARALLEL,
)
