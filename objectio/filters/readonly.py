"""Read-only: what would change something is refused with `Unavailable`."""

from __future__ import annotations

from collections.abc import Sequence

from objectio.abc.context import Context
from objectio.abc.driver import NoConfig
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import Check, Commit, KVDriver
from objectio.abc.shardstore import Done, ShardStore, ShardWrite
from objectio.errors import Unavailable
from objectio.filters.passthrough import KVFilter, ShardStoreFilter, answer_soon
from objectio.model.stripe import ShardKey


def _refusal() -> Unavailable:
    return Unavailable("the store is configured to be read-only", reason="read_only")


class ReadOnlyKV(KVFilter):
    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        """Commits that only check are reads."""
        if any(commit.writes for commit in commits):
            raise _refusal()
        return self._inner.commit(commits)


class ReadOnlyShardStore(ShardStoreFilter):
    def submit(self, shard: ShardWrite, done: Done) -> None:
        answer_soon(done, _refusal())

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        answer_soon(done, _refusal())


def _open_kv(config: NoConfig, context: Context, inner: KVDriver) -> KVDriver:
    return ReadOnlyKV(inner)


def _open_shardstore(config: NoConfig, context: Context, inner: ShardStore) -> ShardStore:
    return ReadOnlyShardStore(inner)


DRIVERS = [
    FilterDriver(
        name="readonly",
        wraps=FilterKind.KV,
        config=NoConfig,
        open=_open_kv,
        summary="refuses every commit that writes",
    ),
    FilterDriver(
        name="readonly",
        wraps=FilterKind.SHARDSTORE,
        config=NoConfig,
        open=_open_shardstore,
        summary="refuses writes and deletes",
    ),
]
