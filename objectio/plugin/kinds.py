"""The kinds of driver: which hook offers each, and what people call it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """`prefix` opens the entry point names of plugins that offer this kind, as in `kv_<driver>`."""

    name: str
    hook: str
    prefix: str
    title: str


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("exporter", "objectio_register_exporters", "metrics", "metrics exporter"),
        Kind("filter", "objectio_register_filters", "filter", "filter"),
        Kind("codec", "objectio_register_codecs", "ec", "erasure codec"),
        Kind("kv", "objectio_register_kv", "kv", "key-value engine"),
        Kind("kms", "objectio_register_kms", "kms", "key manager"),
        Kind("placement", "objectio_register_placements", "placement", "placement rule"),
        Kind("shardstore", "objectio_register_shardstores", "shardstore", "shard store"),
        Kind("transport", "objectio_register_transports", "transport", "transport"),
        Kind("sink", "objectio_register_sinks", "sink", "event sink"),
        Kind("api", "objectio_register_apis", "api", "API front end"),
        Kind("target", "objectio_register_targets", "target", "block target"),
        Kind("role", "objectio_register_roles", "role", "role"),
    )
}
"""In the order in which their hooks are called."""
