"""Write the Grafana dashboards: `python -m deploy.monitoring.generate`.

A dashboard is a list of panels, and a panel is a title, a kind, a unit and queries; the rest of
Grafana's JSON is the same for all. A test fails when a file is not what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

DASHBOARDS: Final = Path(__file__).parent / "dashboards"
COLUMNS: Final = 24  # of Grafana's grid
RATE: Final = "[$__rate_interval]"
JOB: Final = 'job=~"$job"'
OSD: Final = f'{JOB}, osd=~"$osd"'


class Query(NamedTuple):
    """`legend` names the series by their labels."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    title: str
    kind: str
    unit: str
    queries: Sequence[Query]
    text: str = ""
    width: int = 8
    height: int = 8
    bad_above: float | None = None
    """Shown in red from here on."""
    bad_below: float | None = None
    range: tuple[float, float] | None = None


class Dashboard(NamedTuple):
    uid: str
    title: str
    panels: Sequence[Panel]
    variables: Sequence[tuple[str, str]] = ()
    """Besides the data source and the job: (name, query)."""


def graph(title: str, unit: str, *queries: tuple[str, str], **more: Any) -> Panel:
    return Panel(title, "timeseries", unit, [Query(*query) for query in queries], **more)


def number(title: str, unit: str, expr: str, **more: Any) -> Panel:
    return Panel(title, "stat", unit, [Query(expr)], **{"width": 4, "height": 4, **more})


def per_osd(family: str, selector: str = OSD) -> str:
    """The process that keeps the store in order shows them; another one may have before it."""
    return f"max by (osd) ({family}{{{selector}}})"


def by_device(inner: str) -> str:
    """What devices' processes show by `device`, by the OSD that the device stands for."""
    return (
        f"sum by (osd) ({inner} * on (device) group_left (osd) "
        f"(max by (device, osd) (objectio_osd_device{{{OSD}}}) == 1))"
    )


def rate_by_osd(family: str) -> str:
    return by_device(f"sum by (device) (rate({family}{{{JOB}}}{RATE}))")


def quantile(q: float, family: str, by: str = "", selector: str = JOB) -> str:
    labels = f"le, {by}" if by else "le"
    rate = f"rate({family}_bucket{{{selector}}}{RATE})"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate}))"


def rate(family: str, by: str = "", more: str = "") -> str:
    selector = f"{JOB}, {more}" if more else JOB
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({family}{{{selector}}}{RATE}))"


def or_zero(expr: str) -> str:
    """Of what is shown from the first time on."""
    return f"({expr} or vector(0))"


def mean(sum_of: str, by: str = "", more: str = "", *, count: str) -> str:
    return f"{rate(sum_of, by, more)} / {rate(count, by, more)}"


REQUESTS: Final = "objectio_s3_requests_total"
DURATION: Final = "objectio_s3_request_duration_seconds"
PROCESS: Final = "{{instance}} {{process}}"
RECEIVED: Final = "objectio_s3_received_bytes_total"
SENT: Final = "objectio_s3_sent_bytes_total"
FAILED_SHARE: Final = or_zero(rate(REQUESTS, more='status=~"5.."')) + f" / {rate(REQUESTS)}"
FILLED: Final = f"{per_osd('objectio_osd_used_bytes')} / {per_osd('objectio_osd_capacity_bytes')}"
WAITING: Final = f"max by (margin) (objectio_repair_waiting_blobs{{{JOB}}})"
LOST_MARGIN: Final = "may lose {{margin}} more"
WORST_BATCH: Final = (
    "histogram_quantile(0.99, sum by (le, osd) ("
    f"sum by (le, device) (rate(objectio_osd_device_batch_seconds_bucket{{{JOB}}}{RATE}))"
    " * on (device) group_left (osd) "
    f"(max by (device, osd) (objectio_osd_device{{{OSD}}}) == 1)))"
)
FROM_CACHE: Final = rate_by_osd("objectio_osd_device_cache_hits_total")
NOT_FROM_CACHE: Final = rate_by_osd("objectio_osd_device_cache_misses_total")
OSD_VARIABLE: Final = (("osd", f"label_values(objectio_osd_up{{{JOB}}}, osd)"),)


CLUSTER: Final = Dashboard(
    "objectio-cluster",
    "ObjectIO: cluster overview",
    [
        number("Targets down", "none", f"count(up{{{JOB}}} == 0) or vector(0)", bad_above=1),
        number(
            "OSDs down",
            "none",
            f"count({per_osd('objectio_osd_up', JOB)} == 0) or vector(0)",
            bad_above=1,
        ),
        number(
            "Blobs that may lose nothing more",
            "none",
            f'max(objectio_repair_waiting_blobs{{{JOB}, margin="0"}})',
            bad_above=1,
        ),
        number(
            "Devices used",
            "percentunit",
            f"sum({per_osd('objectio_osd_used_bytes', JOB)})"
            f" / sum({per_osd('objectio_osd_capacity_bytes', JOB)})",
            bad_above=0.85,
        ),
        number("Requests", "reqps", rate(REQUESTS)),
        number("Requests failed", "percentunit", FAILED_SHARE, bad_above=0.01),
        graph(
            "Stored, by pool",
            "bytes",
            (
                f"max by (pool, profile) (objectio_pool_bytes{{{JOB}}})",
                "objects, {{pool}} {{profile}}",
            ),
            (f"max by (pool, profile) (objectio_pool_raw_bytes{{{JOB}}})", "on devices, {{pool}}"),
            text="Counted in the background: the numbers may be minutes old, hours in a large store.",
        ),
        graph(
            "Devices",
            "bytes",
            (f"sum({per_osd('objectio_osd_capacity_bytes', JOB)})", "capacity"),
            (f"sum({per_osd('objectio_osd_used_bytes', JOB)})", "used"),
            (f"sum({per_osd('objectio_osd_live_bytes', JOB)})", "live"),
        ),
        graph(
            "Throughput of S3",
            "Bps",
            (rate(RECEIVED), "received"),
            (rate(SENT), "sent"),
        ),
        graph("To repair", "short", (WAITING, LOST_MARGIN), text="Blobs with shards to make anew."),
        graph(
            "Repair and moves",
            "bytes",
            (f"max(objectio_repair_bytes_left{{{JOB}}})", "to repair"),
            (f"max(objectio_rebalance_bytes_left{{{JOB}}})", "to move"),
        ),
        graph(
            "Background work",
            "short",
            (f"max(objectio_store_garbage_backlog{{{JOB}}})", "garbage, rows"),
            (f"max(objectio_rebalance_groups_moving{{{JOB}}})", "groups moving"),
            (f"max(objectio_rebalance_groups_waiting{{{JOB}}})", "groups waiting"),
        ),
        graph(
            "Metadata: commits",
            "ops",
            (rate("objectio_kv_commits_total"), "applied"),
            (rate("objectio_kv_conflicts_total"), "in conflict"),
            (rate("objectio_kv_failed_batches_total"), "failed batches"),
        ),
        graph(
            "Metadata: time of a batch",
            "s",
            (quantile(0.5, "objectio_kv_batch_seconds"), "p50"),
            (quantile(0.99, "objectio_kv_batch_seconds"), "p99"),
        ),
        graph(
            "Metadata: queue and journal",
            "short",
            (f"max(objectio_kv_pending_commits{{{JOB}}})", "commits waiting"),
            (f"max(objectio_journal_waiting{{{JOB}}})", "batches not in the journal yet"),
            (f"max(objectio_journal_copies{{{JOB}}})", "copies of the journal"),
        ),
        graph(
            "Queues",
            "short",
            (f"sum(objectio_gateway_requests_in_flight{{{JOB}}})", "requests being answered"),
            (f"sum(objectio_store_memory_waiting{{{JOB}}})", "stripes that wait for memory"),
            (f"sum(objectio_osd_device_queue_items{{{JOB}}})", "shards that wait for devices"),
            (f"max(objectio_kv_pending_commits{{{JOB}}})", "commits that wait for the metadata"),
            (or_zero(f"sum(objectio_rpc_calls{{{JOB}}})"), "calls between processes"),
            text="Which one is long says what is too slow.",
        ),
        graph(
            "Event loop: lag, p99",
            "s",
            (quantile(0.99, "objectio_event_loop_lag_seconds", "instance, process"), PROCESS),
            text="What every request of the process waits for.",
        ),
        graph(
            "Processors",
            "none",
            (rate("process_cpu_seconds_total", "instance, process"), PROCESS),
            text="1 is one core; a process uses little more than one.",
        ),
        graph(
            "Memory",
            "bytes",
            (f"sum by (instance, process) (process_resident_memory_bytes{{{JOB}}})", PROCESS),
        ),
    ],
)

S3: Final = Dashboard(
    "objectio-s3",
    "ObjectIO: S3 operations",
    [
        number("Requests", "reqps", rate(REQUESTS)),
        number("Failed (5xx)", "percentunit", FAILED_SHARE, bad_above=0.01),
        number("In flight", "none", f"sum(objectio_gateway_requests_in_flight{{{JOB}}})"),
        number("p99", "s", quantile(0.99, DURATION), bad_above=2),
        number("Received", "Bps", rate(RECEIVED)),
        number("Sent", "Bps", rate(SENT)),
        graph("Requests by operation", "reqps", (rate(REQUESTS, "operation"), "{{operation}}")),
        graph(
            "Requests by status",
            "reqps",
            (rate(REQUESTS, "status"), "{{status}}"),
            text="0: the client went away before there was an answer.",
        ),
        graph(
            "Refused and failed",
            "reqps",
            (or_zero(rate(REQUESTS, more='status=~"401|403"')), "denied"),
            (or_zero(rate(REQUESTS, more='status="404"')), "not found"),
            (or_zero(rate(REQUESTS, more='status="503"')), "unavailable, or too many"),
            (or_zero(rate(REQUESTS, more='status="500"')), "internal errors"),
            (or_zero(rate(REQUESTS, more='status="0"')), "client gone"),
        ),
        graph(
            "Duration",
            "s",
            (quantile(0.5, DURATION), "p50"),
            (quantile(0.95, DURATION), "p95"),
            (quantile(0.99, DURATION), "p99"),
            text="From the request's head to the end of the response: slow clients count.",
        ),
        graph(
            "Duration by operation, p99",
            "s",
            (quantile(0.99, DURATION, "operation"), "{{operation}}"),
        ),
        graph(
            "Duration by operation, mean",
            "s",
            (mean(f"{DURATION}_sum", "operation", count=f"{DURATION}_count"), "{{operation}}"),
        ),
        graph(
            "Received by operation",
            "Bps",
            (rate(RECEIVED, "operation"), "{{operation}}"),
        ),
        graph(
            "Sent by operation",
            "Bps",
            (rate(SENT, "operation"), "{{operation}}"),
        ),
        graph(
            "Mean size of a body",
            "bytes",
            (mean(RECEIVED, more='operation="PutObject"', count=REQUESTS), "PutObject"),
            (mean(RECEIVED, more='operation="UploadPart"', count=REQUESTS), "UploadPart"),
            (mean(SENT, more='operation="GetObject"', count=REQUESTS), "GetObject"),
        ),
        graph(
            "Reads made up for",
            "ops",
            (rate("objectio_store_degraded_reads_total"), "a shard is lost or damaged"),
            (rate("objectio_store_hedged_reads_total"), "a device is slow"),
            text="Stripes that were read from other shards, parity included.",
        ),
        graph(
            "Memory for stripes under way",
            "bytes",
            (f"sum by (instance, process) (objectio_store_memory_bytes{{{JOB}}})", PROCESS),
        ),
        graph(
            "Connections",
            "short",
            (f"sum by (instance, process) (objectio_gateway_connections{{{JOB}}})", PROCESS),
            (
                f"sum(increase(objectio_gateway_refused_connections_total{{{JOB}}}{RATE}))",
                "refused",
            ),
            text="Refused: more than gateway.connections_max, or than one address may have.",
        ),
        graph(
            "Requests by gateway",
            "reqps",
            (rate(REQUESTS, "instance, process"), PROCESS),
        ),
    ],
)

OSDS: Final = Dashboard(
    "objectio-osd",
    "ObjectIO: OSD detail",
    [
        graph(
            "Written",
            "Bps",
            (rate_by_osd("objectio_osd_device_written_bytes_total"), "OSD {{osd}}"),
        ),
        graph(
            "Read",
            "Bps",
            (rate_by_osd("objectio_osd_device_read_bytes_total"), "OSD {{osd}}"),
            text="From the device, or the page cache in front of it; not what its own cache had.",
        ),
        graph(
            "Queue",
            "short",
            (
                by_device(f"sum by (device) (objectio_osd_device_queue_items{{{JOB}}})"),
                "OSD {{osd}}",
            ),
            text="Shards and deletions that wait, or are being written.",
        ),
        graph(
            "Batches",
            "ops",
            (rate_by_osd("objectio_osd_device_batch_seconds_count"), "OSD {{osd}}"),
        ),
        graph("Time of a batch, p99", "s", (WORST_BATCH, "OSD {{osd}}")),
        graph(
            "Found in the cache",
            "percentunit",
            (
                f"{FROM_CACHE} / ({FROM_CACHE} + {NOT_FROM_CACHE})",
                "OSD {{osd}}",
            ),
            text="Of devices that are read past the page cache.",
            range=(0, 1),
        ),
        graph("Shards", "short", (per_osd("objectio_osd_shards"), "OSD {{osd}}")),
        graph(
            "Placement groups",
            "short",
            (per_osd("objectio_osd_groups"), "OSD {{osd}}"),
            text="Positions of groups on it: falls to 0 while it is drained.",
        ),
        graph("Memory of the cache", "bytes", (per_osd("objectio_osd_cache_bytes"), "OSD {{osd}}")),
        graph("Used", "bytes", (per_osd("objectio_osd_used_bytes"), "OSD {{osd}}")),
        graph("Live", "bytes", (per_osd("objectio_osd_live_bytes"), "OSD {{osd}}")),
        graph(
            "Dead share",
            "percentunit",
            (
                f"1 - {per_osd('objectio_osd_live_bytes')} / ({per_osd('objectio_osd_used_bytes')} > 0)",
                "OSD {{osd}}",
            ),
            text="Of what is used: compaction gives it back.",
            range=(0, 1),
        ),
    ],
    OSD_VARIABLE,
)

DISKS: Final = Dashboard(
    "objectio-disks",
    "ObjectIO: disk health",
    [
        Panel(
            "Up",
            "state-timeline",
            "bool_on_off",
            [Query(per_osd("objectio_osd_up"), "OSD {{osd}}")],
            bad_below=1,
        ),
        Panel(
            "Writable",
            "state-timeline",
            "bool_on_off",
            [Query(per_osd("objectio_osd_writable"), "OSD {{osd}}")],
            "Off for a device that is full (it takes deletions) or failed (it is read only).",
            bad_below=1,
        ),
        Panel(
            "Slow",
            "state-timeline",
            "bool_on_off",
            [Query(per_osd("objectio_osd_slow"), "OSD {{osd}}")],
            "Reads are made up for from other devices.",
            bad_above=1,
        ),
        Panel(
            "Filled",
            "bargauge",
            "percentunit",
            [Query(FILLED, "OSD {{osd}}")],
            bad_above=0.85,
            range=(0, 1),
        ),
        graph(
            "Filled in a week",
            "percentunit",
            (
                f"max by (osd) (predict_linear(objectio_osd_used_bytes{{{OSD}}}[6h], 604800)"
                f" / objectio_osd_capacity_bytes{{{OSD}}})",
                "OSD {{osd}}",
            ),
            text="If it goes on as in the last six hours.",
            bad_above=1,
        ),
        graph("Time of a batch, p99", "s", (WORST_BATCH, "OSD {{osd}}")),
        Panel(
            "Found by the last scrub",
            "bargauge",
            "short",
            [
                Query(
                    f'max by (kind) (objectio_scrub_found{{{JOB}, kind!~"healthy|unread"}})',
                    "{{kind}}",
                )
            ],
            "Shards; stripes for inconsistent and unrepairable.",
            bad_above=1,
        ),
        graph(
            "Damaged blobs found",
            "short",
            (f"max(objectio_store_scrub_damaged_blobs_total{{{JOB}}})", "since the start"),
        ),
        graph(
            "Scrub",
            "percentunit",
            (f"(max(objectio_scrub_progress{{{JOB}}}) >= 0) or vector(0)", "progress"),
            text="0 while none runs.",
            range=(0, 1),
        ),
        number("Last scrub", "s", f"max(objectio_scrub_age_seconds{{{JOB}}})", bad_above=1_209_600),
        number("Refilling", "none", f"sum({per_osd('objectio_osd_refilling')})"),
        number(
            "Blobs that wait", "none", f"max(objectio_repair_blocked_blobs{{{JOB}}})", bad_above=1
        ),
        graph("To repair", "short", (WAITING, LOST_MARGIN), width=12),
        graph(
            "Repaired",
            "Bps",
            (f"sum(rate(objectio_repair_bytes_total{{{JOB}}}{RATE}))", "written"),
            width=12,
        ),
    ],
    OSD_VARIABLE,
)

ALL: Final = {"cluster": CLUSTER, "s3": S3, "osd": OSDS, "disks": DISKS}


def render(dashboard: Dashboard) -> str:
    """The file, as Grafana imports it."""
    panels, x, y, row_height = [], 0, 0, 0
    for number_, panel in enumerate(dashboard.panels, 1):
        if x + panel.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        panels.append(_panel(panel, number_, x, y))
        x += panel.width
        row_height = max(row_height, panel.height)
    variables = (
        ("job", "label_values(objectio_event_loop_lag_seconds_count, job)"),
        *dashboard.variables,
    )
    return (
        json.dumps(
            {
                "uid": dashboard.uid,
                "title": dashboard.title,
                "tags": ["objectio"],
                "schemaVersion": 39,
                "version": 1,
                "editable": True,
                "graphTooltip": 1,
                "refresh": "30s",
                "time": {"from": "now-3h", "to": "now"},
                "templating": {"list": [_DATASOURCE, *(_variable(*each) for each in variables)]},
                "panels": panels,
            },
            indent=1,
        )
        + "\n"
    )


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_DATASOURCE: Final = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 3,
    }


def _panel(panel: Panel, number_: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.range is not None:
        defaults |= {"min": panel.range[0], "max": panel.range[1]}
    if panel.bad_above is not None:
        defaults["thresholds"] = _thresholds(("green", None), ("red", panel.bad_above))
    elif panel.bad_below is not None:
        defaults["thresholds"] = _thresholds(("red", None), ("green", panel.bad_below))
    if panel.kind == "state-timeline" or panel.bad_above is not None:
        defaults["color"] = {
            "mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"
        }
    shown = {
        "id": number_,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind in ("stat", "bargauge"),
            }
            for place, query in enumerate(panel.queries)
        ],
    }
    return shown | ({"description": panel.text} if panel.text else {})


def _thresholds(*steps: tuple[str, float | None]) -> dict[str, Any]:
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for color, value in steps],
    }


def main() -> int:
    """Write every dashboard whose text has changed."""
    DASHBOARDS.mkdir(exist_ok=True)
    for name, dashboard in ALL.items():
        path, text = DASHBOARDS / f"{name}.json", render(dashboard)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
