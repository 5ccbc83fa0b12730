"""Key management: who keeps the keys that data keys are wrapped with.

The store makes a fresh data key for each version, asks the KMS to wrap it, keeps the wrapped form in
the version's row and forgets the other. A driver never sees data. What it gives back for `unwrap` is
right or it raises: a wrapped key that was changed, or that belongs to another context, must not open.

Keys that are lost take everything with them that they wrapped. So a cluster remembers which set of
keys it began with, and a driver never makes new keys in place of those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from objectio.abc.admin import Finding


class DataKey(NamedTuple):
    """32 random bytes, and the same wrapped by `key_id`. Never show one of these."""

    plain: bytes
    wrapped: bytes
    key_id: str

    def __repr__(self) -> str:
        return f"DataKey({self.key_id})"


class KeyManager(Protocol):
    """What `Driver.open` of a KMS gives. All calls are made on the event loop and may wait. Before
    `start` all but `close` raise `Unavailable`."""

    async def start(self, key_set: str | None) -> str:
        """Called once. `key_set` is what the first start in this cluster gave back: it names all the
        keys together. None: there was none, and keys are made if there are none. That the keys are
        missing now, or are of another set, is logged; it makes other calls raise `Unavailable` until
        they are there."""
        ...

    @property
    def default_key(self) -> str:
        """The id of the key for who names none."""
        ...

    async def generate(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        """A new data key. `context` is bound to it. Raises `NotFound` (kind key), `Unavailable`."""
        ...

    async def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Raises `NotFound` (kind key), `AccessDenied` if it does not open, `Unavailable`."""
        ...

    async def keys(self) -> Sequence[str]:
        """The ids of all keys that may be named."""
        ...

    def findings(self) -> Sequence[Finding]:
        """What the doctor is to say of the keys. May read files; called in a worker thread."""
        ...

    async def close(self) -> None: ...
