"""Key-value stores: the portable type and the memory driver."""

from objectio.kv.store import KVStore

__all__ = ["KVStore"]
