"""What the cache of a device did, for whoever counts."""

from __future__ import annotations

from objectio.abc.metrics import Metrics
from objectio.osd.cache import ArcCache


class CacheMeter:
    """Passes on what has changed when it is asked to, so that a hit costs nothing for it."""

    def __init__(self, cache: ArcCache | None, metrics: Metrics, device_id: str) -> None:
        self._cache = cache
        if cache is None:
            return
        self._hits = metrics.counter(
            "objectio_osd_cache_hits_total",
            "Blocks that a read found in the cache of a device.",
            device=device_id,
        )
        self._misses = metrics.counter(
            "objectio_osd_cache_misses_total",
            "Blocks that a read had to have from a device.",
            device=device_id,
        )
        self._bytes = metrics.gauge(
            "objectio_osd_cache_bytes", "Memory in the cache of a device.", device=device_id
        )
        self._seen = (0, 0)

    def count(self) -> None:
        if self._cache is None:
            return
        hits, misses = self._cache.hits, self._cache.misses
        self._hits.inc(hits - self._seen[0])
        self._misses.inc(misses - self._seen[1])
        self._seen = (hits, misses)
        self._bytes.set(self._cache.used_bytes)

    def end(self) -> None:
        """The cache is no more."""
        self.count()
        if self._cache is not None:
            self._bytes.set(0)
