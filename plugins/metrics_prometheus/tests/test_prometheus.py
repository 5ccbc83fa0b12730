"""The Prometheus exporter: what it shows, read back by Prometheus' own parsers."""

from __future__ import annotations

import msgspec
import pytest
from objectio_metrics_prometheus.config import PrometheusConfig
from objectio_metrics_prometheus.plugin import objectio_register_exporters
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from objectio.testing.context import make_context
from objectio.testing.metrics import ExporterConformance, labels_of

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"


def samples(families):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def driver():
    (driver,) = objectio_register_exporters()
    return driver


@pytest.fixture
def exporter(driver, tmp_path):
    return driver.open(PrometheusConfig(), make_context(tmp_path))


class TestText(ExporterConformance):
    @pytest.fixture
    def exporter(self, driver, tmp_path):
        return driver.open(PrometheusConfig(), make_context(tmp_path))

    def samples(self, exporter):
        content_type, body = exporter.render()
        assert content_type.startswith("text/plain")
        return samples(text_string_to_metric_families(body.decode()))


class TestOpenMetrics(ExporterConformance):
    @pytest.fixture
    def exporter(self, driver, tmp_path):
        return driver.open(PrometheusConfig(), make_context(tmp_path))

    def samples(self, exporter):
        content_type, body = exporter.render(OPENMETRICS)
        assert content_type.startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        return samples(openmetrics.text_string_to_metric_families(body.decode()))


def test_help_and_type_lines(exporter):
    exporter.metrics.counter("objectio_test_events_total", "Events\nof all kinds.", op="get").inc()
    exporter.metrics.histogram("objectio_test_seconds", "Seconds.", (1,)).observe(2)
    lines = exporter.render()[1].decode().splitlines()
    assert r"# HELP objectio_test_events_total Events\nof all kinds." in lines
    assert "# TYPE objectio_test_events_total counter" in lines
    assert 'objectio_test_events_total{op="get"} 1.0' in lines
    assert "# TYPE objectio_test_seconds histogram" in lines
    assert 'objectio_test_seconds_bucket{le="+Inf"} 1.0' in lines


def test_process_metrics_are_a_choice(driver, tmp_path):
    with_them = driver.open(PrometheusConfig(), make_context(tmp_path)).render()[1]
    without = driver.open(PrometheusConfig(process_metrics=False), make_context(tmp_path)).render()
    for name in (b"process_resident_memory_bytes", b"process_open_fds", b"python_gc_objects"):
        assert name in with_them
    assert without[1].strip() == b""


def test_exporters_share_nothing(driver, tmp_path):
    one, other = (driver.open(PrometheusConfig(), make_context(tmp_path)) for _ in range(2))
    one.metrics.counter("objectio_test_events_total", "Events.").inc()
    assert b"objectio_test_events" not in other.render()[1]


def test_counter_does_not_go_down(exporter):
    with pytest.raises(ValueError, match="only grows"):
        exporter.metrics.counter("objectio_test_events_total", "Events.").inc(-1)


def test_counter_keeps_what_it_counted(exporter):
    key = ("objectio_test_events_total", labels_of(op="a"))
    for n in range(1, 4):
        exporter.metrics.counter("objectio_test_events_total", "Events.", op="a").inc()
        assert samples(text_string_to_metric_families(exporter.render()[1].decode()))[key] == n


@pytest.mark.parametrize("name", ["", "1st", "has space", "has-dash", "ключ"])
def test_bad_metric_name(exporter, name):
    with pytest.raises(ValueError, match="not a name"):
        exporter.metrics.gauge(name, "Bad.")


@pytest.mark.parametrize("label", ["__own", "le", "1st", "has-dash"])
def test_bad_label_name(exporter, label):
    with pytest.raises(ValueError, match="not a name"):
        exporter.metrics.gauge("objectio_test_depth", "Bad.", **{label: "x"})


def test_one_name_has_one_set_of_labels(exporter):
    exporter.metrics.gauge("objectio_test_depth", "Depth.", op="get")
    with pytest.raises(ValueError, match="has labels"):
        exporter.metrics.gauge("objectio_test_depth", "Depth.")


def test_counter_and_gauge_of_one_family_are_refused(exporter):
    exporter.metrics.counter("objectio_test_events_total", "Events.")
    with pytest.raises(ValueError, match="another type"):
        exporter.metrics.gauge("objectio_test_events", "Events.")


def test_gauge_is_set_or_read(exporter):
    exporter.metrics.gauge("objectio_test_a", "A.")
    exporter.metrics.gauge_function("objectio_test_b", "B.", lambda: 1)
    with pytest.raises(ValueError, match="set by the code"):
        exporter.metrics.gauge_function("objectio_test_a", "A.", lambda: 1)
    with pytest.raises(ValueError, match="read by a function"):
        exporter.metrics.gauge("objectio_test_b", "B.")


def test_counter_is_counted_or_read(exporter):
    exporter.metrics.counter("objectio_test_a_total", "A.")
    exporter.metrics.counter_function("objectio_test_b_total", "B.", lambda: 1)
    with pytest.raises(ValueError, match="counted by the code"):
        exporter.metrics.counter_function("objectio_test_a_total", "A.", lambda: 1)
    with pytest.raises(ValueError, match="read by a function"):
        exporter.metrics.counter("objectio_test_b_total", "B.")
    assert "# TYPE objectio_test_b_total counter" in exporter.render()[1].decode().splitlines()


def test_newest_function_is_asked(exporter):
    exporter.metrics.gauge_function("objectio_test_b", "B.", lambda: 1)
    exporter.metrics.gauge_function("objectio_test_b", "B.", lambda: 2)
    assert b"objectio_test_b 2.0" in exporter.render()[1]


def test_config_refuses_unknown_settings():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"port": 1}, PrometheusConfig)
