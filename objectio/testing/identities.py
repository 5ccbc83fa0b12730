"""Identities for tests: the real ones, over a key-value store in memory and keys that nobody keeps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from objectio.abc.admin import Finding
from objectio.abc.driver import ThreadModel
from objectio.abc.kms import DataKey
from objectio.abc.kv import CAP_FAST_READS
from objectio.errors import AccessDenied, NotFound
from objectio.iam.credentials import Credential, StaticCredentials
from objectio.iam.directory import IdentityDirectory
from objectio.iam.identities import Identities
from objectio.iam.vault import Vault
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore


class MemoryKeys:
    """An `objectio.abc.kms.KeyManager` with one key, of this object only."""

    default_key = "memory"

    def __init__(self) -> None:
        self._key = AESGCM(secrets.token_bytes(32))

    async def start(self, key_set: str | None) -> str:
        return key_set or "memory"

    async def generate(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        self._check(key_id)
        plain, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
        wrapped = nonce + self._key.encrypt(nonce, plain, _bound(context))
        return DataKey(plain, wrapped, key_id)

    async def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        self._check(key_id)
        try:
            return self._key.decrypt(wrapped[:12], wrapped[12:], _bound(context))
        except InvalidTag:
            raise AccessDenied("the wrapped key does not open") from None

    async def keys(self) -> Sequence[str]:
        return [self.default_key]

    def findings(self) -> Sequence[Finding]:
        return ()

    async def close(self) -> None:
        pass

    def _check(self, key_id: str) -> None:
        if key_id != self.default_key:
            raise NotFound(f"there is no key {key_id}", kind="key")


def _bound(context: Mapping[str, str]) -> bytes:
    return repr(sorted(context.items())).encode()


def memory_kv() -> KVStore:
    return KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)


class MemoryIdentities(NamedTuple):
    """`kv` holds the rows; `directory` is what the gate asks, `identities` who manages."""

    kv: KVStore
    directory: IdentityDirectory
    identities: Identities


def memory_identities(
    root: Iterable[Credential] = (),
    *,
    kv: KVStore | None = None,
    keys: MemoryKeys | None = None,
    clock: Callable[[], float] = time.time,
) -> MemoryIdentities:
    """A second one over the same `kv` and `keys` is another process of the cluster, which has to be
    started (`directory.start`) to know what there is."""
    kv = memory_kv() if kv is None else kv
    vault = Vault(kv, MemoryKeys() if keys is None else keys)
    directory = IdentityDirectory(kv, vault, StaticCredentials(root), clock=clock)
    return MemoryIdentities(kv, directory, Identities(kv, vault, directory, clock=clock))
