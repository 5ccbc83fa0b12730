"""What a device and its cache did, for whoever counts.

Its process knows the device by its identity only, not by the number that the cluster has for it:
`objectio_osd_device` says which is which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from objectio.abc.metrics import Metrics
from objectio.osd.cache import ArcCache
from objectio.osd.device import Device

_BATCH_BUCKETS_SECONDS: Final = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class Meter:
    """Passes on what has changed when it is asked to, so that a read costs nothing for it."""

    def __init__(
        self,
        device: Device,
        cache: ArcCache | None,
        queued: Callable[[], int],
        metrics: Metrics,
        device_id: str,
    ) -> None:
        self._device = device
        self._cache = cache
        self._queued = queued
        self._read_bytes = metrics.counter(
            "objectio_osd_device_read_bytes_total",
            "Bytes read from a device, or from the page cache in front of it.",
            device=device_id,
        )
        self._written_bytes = metrics.counter(
            "objectio_osd_device_written_bytes_total",
            "Bytes written to a device.",
            device=device_id,
        )
        self._batch_seconds = metrics.histogram(
            "objectio_osd_device_batch_seconds",
            "Writing, and syncing, one batch of shards and deletions.",
            _BATCH_BUCKETS_SECONDS,
            device=device_id,
        )
        metrics.gauge_function(
            "objectio_osd_device_queue_items",
            "Shards and deletions that wait for a device, or are being written.",
            lambda: self._queued(),
            device=device_id,
        )
        self._seen = [0, 0, 0, 0]
        if cache is None:
            return
        self._hits = metrics.counter(
            "objectio_osd_device_cache_hits_total",
            "Blocks that a read found in the cache of a device.",
            device=device_id,
        )
        self._misses = metrics.counter(
            "objectio_osd_device_cache_misses_total",
            "Blocks that a read had to have from a device.",
            device=device_id,
        )
        self._cache_bytes = metrics.gauge(
            "objectio_osd_device_cache_bytes", "Memory in the cache of a device.", device=device_id
        )

    def wrote(self, seconds: float) -> None:
        """One batch; from any thread."""
        self._batch_seconds.observe(seconds)

    def count(self) -> None:
        device, cache = self._device, self._cache
        counters = [self._read_bytes, self._written_bytes]
        now = [device.read_bytes, device.written_bytes]
        if cache is not None:
            counters += [self._hits, self._misses]
            now += [cache.hits, cache.misses]
            self._cache_bytes.set(cache.used_bytes)
        for counter, value, seen in zip(counters, now, self._seen, strict=False):
            counter.inc(value - seen)
        self._seen[: len(now)] = now

    def end(self) -> None:
        """The device is closed: nothing waits for it, and the cache is no more."""
        self.count()
        self._queued = lambda: 0
        if self._cache is not None:
            self._cache_bytes.set(0)
