"""Conformance of a metrics exporter.

class TestMine(ExporterConformance):
    @pytest.fixture
    def exporter(self, tmp_path):
        return MyExporter(...)

    def samples(self, exporter):
        return {(name, frozenset(labels.items())): value for ... in parse(exporter.render())}
"""

from __future__ import annotations

import gc
import math
import threading
import timeit
from collections.abc import Mapping

import pytest

from objectio.abc.metrics import Exporter

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
_NONE: frozenset[tuple[str, str]] = frozenset()
_UPDATE_SECONDS_MAX = 5e-6  # the contract says one microsecond; test machines are slow


def labels_of(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


class ExporterConformance:
    """Subclass, give the fixture `exporter` and the method `samples`; every test must pass."""

    @pytest.fixture
    def exporter(self) -> Exporter:
        raise NotImplementedError("give the fixture `exporter`")

    def samples(self, exporter: Exporter) -> Samples:
        """What the exporter shows: (name, labels) → value. A histogram x appears as x_bucket with
        the label le ("+Inf" for the last), x_sum and x_count."""
        raise NotImplementedError("give the method `samples`")

    def test_counter_counts(self, exporter: Exporter) -> None:
        counter = exporter.metrics.counter("objectio_test_events_total", "Events.")
        counter.inc()
        counter.inc(2.5)
        assert self.samples(exporter)["objectio_test_events_total", _NONE] == 3.5

    def test_counter_that_never_counted_is_shown_as_zero(self, exporter: Exporter) -> None:
        exporter.metrics.counter("objectio_test_events_total", "Events.", op="get")
        shown = self.samples(exporter)
        assert shown["objectio_test_events_total", labels_of(op="get")] == 0

    def test_gauge_goes_up_and_down(self, exporter: Exporter) -> None:
        gauge = exporter.metrics.gauge("objectio_test_depth", "Depth.")
        gauge.set(10)
        gauge.inc(5)
        gauge.dec()
        assert self.samples(exporter)["objectio_test_depth", _NONE] == 14

    def test_gauge_function_is_asked_at_each_scrape(self, exporter: Exporter) -> None:
        values = iter([1.0, 7.0])
        exporter.metrics.gauge_function(
            "objectio_test_bytes", "Bytes.", lambda: next(values), device="a"
        )
        assert self.samples(exporter)["objectio_test_bytes", labels_of(device="a")] == 1
        assert self.samples(exporter)["objectio_test_bytes", labels_of(device="a")] == 7

    def test_counter_function_is_asked_at_each_scrape(self, exporter: Exporter) -> None:
        values = iter([1.0, 7.0])
        exporter.metrics.counter_function(
            "objectio_test_bytes_total", "Bytes.", lambda: next(values), device="a"
        )
        key = "objectio_test_bytes_total", labels_of(device="a")
        assert self.samples(exporter)[key] == 1
        assert self.samples(exporter)[key] == 7

    def test_broken_function_hides_only_itself(self, exporter: Exporter) -> None:
        exporter.metrics.gauge_function("objectio_test_bad", "Bad.", lambda: 1 / 0)
        exporter.metrics.counter_function("objectio_test_bad_count_total", "B.", lambda: 1 / 0)
        exporter.metrics.gauge("objectio_test_good", "Good.").set(1)
        shown = self.samples(exporter)
        assert shown["objectio_test_good", _NONE] == 1
        assert not any(name.startswith("objectio_test_bad") for name, _ in shown)

    def test_histogram_is_cumulative(self, exporter: Exporter) -> None:
        histogram = exporter.metrics.histogram(
            "objectio_test_seconds", "Seconds.", (0.1, 1, 10), op="put"
        )
        for value in (0.05, 0.1, 0.5, 5, 50):
            histogram.observe(value)
        shown = self.samples(exporter)
        buckets = {
            float(dict(labels)["le"]): value
            for (name, labels), value in shown.items()
            if name == "objectio_test_seconds_bucket"
        }
        assert buckets == {0.1: 2, 1.0: 3, 10.0: 4, math.inf: 5}
        assert shown["objectio_test_seconds_count", labels_of(op="put")] == 5
        assert shown["objectio_test_seconds_sum", labels_of(op="put")] == pytest.approx(55.65)

    def test_histogram_without_buckets_gets_some(self, exporter: Exporter) -> None:
        exporter.metrics.histogram("objectio_test_seconds", "Seconds.").observe(0.01)
        names = [name for name, _ in self.samples(exporter)]
        assert names.count("objectio_test_seconds_bucket") > 3

    def test_same_name_and_labels_is_the_same_instrument(self, exporter: Exporter) -> None:
        metrics = exporter.metrics
        metrics.counter("objectio_test_events_total", "Events.", op="get", code="200").inc()
        metrics.counter("objectio_test_events_total", "Events.", code="200", op="get").inc()
        metrics.gauge("objectio_test_depth", "Depth.").inc()
        metrics.gauge("objectio_test_depth", "Depth.").inc()
        metrics.histogram("objectio_test_seconds", "Seconds.", (1,)).observe(0.5)
        metrics.histogram("objectio_test_seconds", "Seconds.", (1,)).observe(0.5)
        shown = self.samples(exporter)
        assert shown["objectio_test_events_total", labels_of(op="get", code="200")] == 2
        assert shown["objectio_test_depth", _NONE] == 2
        assert shown["objectio_test_seconds_count", _NONE] == 2

    def test_other_labels_are_another_instrument(self, exporter: Exporter) -> None:
        metrics = exporter.metrics
        metrics.counter("objectio_test_events_total", "Events.", op="get").inc(1)
        metrics.counter("objectio_test_events_total", "Events.", op="put").inc(2)
        shown = self.samples(exporter)
        assert shown["objectio_test_events_total", labels_of(op="get")] == 1
        assert shown["objectio_test_events_total", labels_of(op="put")] == 2

    @pytest.mark.parametrize("value", ['"', "\\", "\n", "a,b={}", "ключ", ""])
    def test_label_values_survive(self, exporter: Exporter, value: str) -> None:
        exporter.metrics.gauge("objectio_test_depth", "Depth.", bucket=value).set(3)
        assert self.samples(exporter)["objectio_test_depth", labels_of(bucket=value)] == 3

    @pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300, 2**53, -0.25])
    def test_values_survive(self, exporter: Exporter, value: float) -> None:
        exporter.metrics.gauge("objectio_test_depth", "Depth.").set(value)
        assert self.samples(exporter)["objectio_test_depth", _NONE] == value

    def test_one_name_has_one_type(self, exporter: Exporter) -> None:
        exporter.metrics.gauge("objectio_test_depth", "Depth.")
        with pytest.raises(ValueError, match="objectio_test_depth"):
            exporter.metrics.histogram("objectio_test_depth", "Depth.")

    def test_updates_from_threads_all_count(self, exporter: Exporter) -> None:
        counter = exporter.metrics.counter("objectio_test_events_total", "Events.")
        histogram = exporter.metrics.histogram("objectio_test_seconds", "Seconds.")

        def update() -> None:
            for _ in range(5_000):
                counter.inc()
                histogram.observe(1)

        threads = [threading.Thread(target=update) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shown = self.samples(exporter)
        assert shown["objectio_test_events_total", _NONE] == 20_000
        assert shown["objectio_test_seconds_count", _NONE] == 20_000

    def test_updates_are_cheap(self, exporter: Exporter) -> None:
        metrics = exporter.metrics
        gauge = metrics.gauge("objectio_test_depth", "Depth.")
        histogram = metrics.histogram("objectio_test_seconds", "Seconds.")
        updates = (
            metrics.counter("objectio_test_events_total", "Events.", op="get").inc,
            lambda: gauge.set(1.5),
            lambda: histogram.observe(0.25),
        )
        gc.collect()
        for update in updates:
            best = min(timeit.repeat(update, number=1_000, repeat=10)) / 1_000
            assert best < _UPDATE_SECONDS_MAX

    def test_two_scrapes_of_nothing_new_are_equal(self, exporter: Exporter) -> None:
        exporter.metrics.counter("objectio_test_events_total", "Events.").inc()
        ours = [
            {key: value for key, value in self.samples(exporter).items() if "objectio" in key[0]}
            for _ in range(2)
        ]
        assert ours[0] == ours[1] != {}

    def test_render_says_what_it_is(self, exporter: Exporter) -> None:
        content_type, body = exporter.render()
        assert "/" in content_type
        assert isinstance(body, bytes)
