"""The exporter: one registry of its own, shown in the format that the scraper asks for."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from objectio.abc.context import Context
from objectio_metrics_prometheus.config import PrometheusConfig
from objectio_metrics_prometheus.metrics import PrometheusMetrics


class PrometheusExporter:
    """Several may live in one process, and share nothing."""

    def __init__(self, config: PrometheusConfig, context: Context) -> None:
        self._registry = CollectorRegistry()
        self._metrics = PrometheusMetrics(context.log)
        self._registry.register(self._metrics)
        if config.process_metrics:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    @property
    def metrics(self) -> PrometheusMetrics:
        return self._metrics

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """OpenMetrics if `accept` (an Accept header) asks for it, else Prometheus' text format."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)
