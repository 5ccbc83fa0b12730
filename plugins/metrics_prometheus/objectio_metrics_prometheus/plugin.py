"""Registers the exporter "prometheus"."""

from __future__ import annotations

from collections.abc import Iterable

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, ThreadModel
from objectio.abc.metrics import Exporter
from objectio_metrics_prometheus.config import PrometheusConfig


def _open(config: PrometheusConfig, context: Context) -> Exporter:
    from objectio_metrics_prometheus.exporter import PrometheusExporter

    return PrometheusExporter(config, context)


@hookimpl
def objectio_register_exporters() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="prometheus",
            config=PrometheusConfig,
            open=_open,
            summary="counts for Prometheus and shows them at /metrics",
            rank=100,
            threads=ThreadModel.PARALLEL,
        )
    ]
