"""The factory of instruments: a collector that prometheus-client asks at each scrape."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from objectio_metrics_prometheus.instruments import (
    PrometheusCounter,
    PrometheusGauge,
    PrometheusHistogram,
)

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

LATENCY_BUCKETS_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""What a histogram gets that does not ask: half a millisecond to ten seconds."""

Read = Callable[[], float]
Instrument = TypeVar("Instrument")
Number = TypeVar("Number", bound="PrometheusCounter | PrometheusGauge | Read")


class _Family(Generic[Instrument]):
    """All instruments of one name; they have the same label names."""

    def __init__(self, name: str, help: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.instruments: dict[tuple[str, ...], Instrument] = {}

    def items(self) -> list[tuple[tuple[str, ...], Instrument]]:
        return sorted(self.instruments.copy().items(), key=lambda item: item[0])


class _Numbers(_Family[Number]):
    def values(self, log: logging.Logger) -> Iterator[tuple[tuple[str, ...], float]]:
        """Of each: what it keeps, or what its function says."""
        for labels, instrument in self.items():
            try:
                if isinstance(instrument, PrometheusCounter | PrometheusGauge):
                    value = instrument.value
                else:
                    value = float(instrument())
            except Exception:
                # One broken reading must not take the whole scrape with it.
                log.exception("metric %s %s could not be read", self.name, labels)
                continue
            yield labels, value


class _Counters(_Numbers["PrometheusCounter | Read"]):
    def show(self, log: logging.Logger) -> Metric:
        metric = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values(log):
            metric.add_metric(labels, value)
        return metric


class _Gauges(_Numbers["PrometheusGauge | Read"]):
    def show(self, log: logging.Logger) -> Metric:
        metric = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values(log):
            metric.add_metric(labels, value)
        return metric


class _Histograms(_Family[PrometheusHistogram]):
    def show(self, log: logging.Logger) -> Metric:
        metric = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, histogram in self.items():
            buckets, total = histogram.read()
            metric.add_metric(labels, buckets, total)
        return metric


FamilyT = TypeVar("FamilyT", _Counters, _Gauges, _Histograms)


class PrometheusMetrics(Collector):
    """A name has one type and one set of label names; anything else is a `ValueError`."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._families: dict[str, _Counters | _Gauges | _Histograms] = {}

    def counter(self, name: str, help: str, **labels: str) -> PrometheusCounter:
        with self._lock:
            family, values = self._family(_Counters, name, help, labels)
            counter = family.instruments.setdefault(values, PrometheusCounter())
        if not isinstance(counter, PrometheusCounter):
            raise ValueError(f"metric {name} {labels} is read by a function")
        return counter

    def gauge(self, name: str, help: str, **labels: str) -> PrometheusGauge:
        with self._lock:
            family, values = self._family(_Gauges, name, help, labels)
            gauge = family.instruments.setdefault(values, PrometheusGauge())
        if not isinstance(gauge, PrometheusGauge):
            raise ValueError(f"metric {name} {labels} is read by a function")
        return gauge

    def gauge_function(self, name: str, help: str, read: Read, **labels: str) -> None:
        """The newest function of a name and labels is the one that is asked."""
        with self._lock:
            family, values = self._family(_Gauges, name, help, labels)
            if isinstance(family.instruments.get(values), PrometheusGauge):
                raise ValueError(f"metric {name} {labels} is set by the code")
            family.instruments[values] = read

    def counter_function(self, name: str, help: str, read: Read, **labels: str) -> None:
        """As `gauge_function`."""
        with self._lock:
            family, values = self._family(_Counters, name, help, labels)
            if isinstance(family.instruments.get(values), PrometheusCounter):
                raise ValueError(f"metric {name} {labels} is counted by the code")
            family.instruments[values] = read

    def histogram(
        self, name: str, help: str, buckets: Sequence[float] = (), **labels: str
    ) -> PrometheusHistogram:
        bounds = sorted(set(buckets or LATENCY_BUCKETS_SECONDS))
        with self._lock:
            family, values = self._family(_Histograms, name, help, labels)
            return family.instruments.setdefault(values, PrometheusHistogram(bounds))

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            families = sorted(self._families.values(), key=lambda family: family.name)
        for family in families:
            yield family.show(self._log)

    def _family(
        self, kind: type[FamilyT], name: str, help: str, labels: dict[str, str]
    ) -> tuple[FamilyT, tuple[str, ...]]:
        names = tuple(sorted(labels))
        base = name.removesuffix("_total")  # the library cuts it from a counter's family
        family = self._families.get(base)
        if family is None:
            _check_names(name, names)
            family = self._families[base] = kind(name, help, names)
        if not isinstance(family, kind):
            raise ValueError(f"metric {name} exists with another type")
        if family.labels != names:
            raise ValueError(f"metric {name} has labels {family.labels}, not {names}")
        return family, tuple(labels[each] for each in names)


def _check_names(name: str, labels: tuple[str, ...]) -> None:
    if not _METRIC_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a metric")
    for label in labels:
        if not _LABEL_NAME.fullmatch(label) or label == "le":
            raise ValueError(f"{label!r} is not a name of a label (of metric {name})")
