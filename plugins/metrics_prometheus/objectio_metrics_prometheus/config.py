"""Settings of the exporter."""

from __future__ import annotations

import msgspec


class PrometheusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics for Prometheus."""

    process_metrics: bool = True
    """Also show the process: CPU, memory, open files, Python's version and garbage collector."""
