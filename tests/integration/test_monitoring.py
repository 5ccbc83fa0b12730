"""Monitoring: every metric is on its page; a real Prometheus finds data for every panel and alert."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from objectio.testing.cluster import fetch_metrics
from objectio.testing.roles import free_ports
from objectio.testing.shapes import SHAPES_SLOW

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_metrics_prometheus"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
QUICK = {"osd.check_seconds": "0.2", "store.scrub_interval_seconds": "1"}
SECONDS_MAX = 60
NAN_ALLOWED = {"Found in the cache"}  # a disk that cannot be read past the page cache has none
ONLY_AT_TIMES = {
    "objectio_process_up",  # under a supervisor
    "objectio_events_oldest_seconds",  # with a target of events
    "objectio_tls_certificate_expiry_timestamp_seconds",  # with TLS
}


def load(path):
    spec = importlib.util.spec_from_file_location("live_" + path.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def families():
    return {family.name: family for family in load(ROOT / "docs/generate.py").metric_families()}


@pytest.fixture
def load_a_little(connect):
    """`load_a_little(server)`: some of everything that is counted."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    def make(server):
        s3 = connect(server)
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket="monitored")
        for number in range(5):
            s3.put_object(Bucket="monitored", Key=f"small{number}", Body=b"x" * 3000)
        s3.put_object(Bucket="monitored", Key="large", Body=b"y" * (5 << 20))
        for key in ("small1", "small1", "large"):
            s3.get_object(Bucket="monitored", Key=key)["Body"].read()
        s3.head_object(Bucket="monitored", Key="small2")
        whole = {"Bucket": "monitored", "Key": "in-parts"}
        upload = {**whole, "UploadId": s3.create_multipart_upload(**whole)["UploadId"]}
        etag = s3.upload_part(**upload, PartNumber=1, Body=b"z" * 5000)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        s3.list_objects_v2(Bucket="monitored")
        s3.delete_object(Bucket="monitored", Key="small4")
        with pytest.raises(ClientError):
            s3.get_object(Bucket="monitored", Key="nothing")
        wrong = {**server.s3_settings(), "aws_secret_access_key": "wrong"}
        stranger = boto3.client("s3", config=Config(retries={"max_attempts": 0}), **wrong)
        with contextlib.closing(stranger), pytest.raises(ClientError):
            stranger.list_buckets()

    return make


# The page.


@pytest.fixture
def shape(request):
    return getattr(request, "param", "one")


def shown(text):
    """(family, type) → the names of labels that its samples have, of `/metrics`."""
    found, family, kind = {}, "", ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            found[family, kind] = set()
        elif line and not line.startswith("#"):
            labels = re.findall(r'[{,](\w+)="', line.rpartition(" ")[0])
            found[family, kind].add(tuple(sorted({*labels} - {"le", "process"})))
    return found


@pytest.mark.parametrize("shape", SHAPES_SLOW, indirect=True)
def test_every_metric_is_on_its_page(start, families, load_a_little, shape):
    server = start(settings=QUICK)
    load_a_little(server)
    texts = [fetch_metrics(server.endpoint)]
    if shape == "roles":
        texts += texts_of(server, shape).values()
    seen = set()
    for text in texts:
        for (name, kind), labels in shown(text).items():
            if not name.startswith("objectio_"):
                continue
            page = families.get(re.sub(r"^objectio_(s3|iam|admin)_", "objectio_<api>_", name))
            assert page is not None, f"{name} is not on the page"
            assert kind == page.type, name
            assert labels <= {tuple(each for each in page.labels if each != "process")}, name
            seen.add(page.name)
    assert {"objectio_<api>_requests_total", "objectio_osd_up", "objectio_kv_commits_total"} <= seen
    assert {"objectio_pool_bytes", "objectio_event_loop_lag_seconds"} <= seen
    assert {"objectio_osd_device_queue_items", "objectio_store_repair_backlog"} <= seen
    # Operations are called as S3 calls them, not as the actions that policies allow.
    operations = {*re.findall(r'objectio_s3_requests_total\{.*?operation="(\w+)"', "".join(texts))}
    assert operations == {
        *("CreateBucket", "ListBuckets", "ListObjectsV2"),
        *("PutObject", "GetObject", "HeadObject", "DeleteObject"),
        *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    }
    if shape == "workers":
        assert "objectio_process_up" in seen
    if shape != "one":
        assert {"objectio_rpc_connections", "objectio_sessions"} <= seen


# Prometheus.


def targets(server, shape):
    """What Prometheus scrapes, by job, as `prometheus.yml` says it."""
    if shape != "roles":
        return {"objectio": [server.endpoint.partition("://")[2]]}
    found = {}
    for name, endpoint in server.metrics_endpoints.items():
        role = name.partition("-")[0]
        found.setdefault(f"objectio-{role}", []).append(endpoint.partition("://")[2])
    return found


class Prometheus:
    def __init__(self, where, targets):
        [port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._where = where
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
        config["global"]["evaluation_interval"] = "500ms"
        config["rule_files"] = [str(MONITORING / "alerts.yml")]
        config["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": found}]}
            for job, found in targets.items()
        ]
        (where / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (where / "log").open("wb")
        self._process = subprocess.Popen(
            [
                shutil.which("prometheus"),
                f"--config.file={where / 'prometheus.yml'}",
                f"--storage.tsdb.path={where / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, path, **query):
        url = f"{self.endpoint}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expr):
        """Of the series that the expression gives now. An error for one that does not parse."""
        for name, value in (("$__rate_interval", "10s"), ("$job", ".*"), ("$osd", ".*")):
            expr = expr.replace(name, value)
        assert "$" not in expr
        return [float(each["value"][1]) for each in self.ask("query", query=expr)["result"]]

    def tail(self):
        return (self._where / "log").read_text(errors="replace")[-2000:]


@pytest.fixture
def prometheus(tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: make clients")
    with contextlib.ExitStack() as stack:

        def make(targets):
            where = tmp_path / "prometheus"
            where.mkdir()
            found = Prometheus(where, targets)
            stack.callback(found.stop)
            return found

        yield make


def wait_for(ask, what, tail):
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        with contextlib.suppress(OSError):
            if answer := ask():
                return answer
        assert time.monotonic() < deadline, f"{what()}\n{tail()}"
        time.sleep(0.1)


@pytest.fixture
def on_images(tmp_path):
    """A data directory whose disks are image files: these are read past the page cache, and have a
    cache of their own."""
    from objectio import builtin
    from objectio.plugin.loader import load_plugins
    from objectio.runtime.quickstart import make_config

    directory = tmp_path / "data"
    registry = load_plugins(builtin=(builtin,)).registry
    path = make_config(directory, 6, "127.0.0.1:0", registry)
    text = re.sub(r'^path = "disks/(\d)"', r'path = "disks/\1.img"', path.read_text(), flags=re.M)
    text = re.sub(r"^size_bytes = 0$", "size_bytes = 268435456", text, flags=re.M)
    text = text.replace("replace_blank = true", "replace_blank = false")  # what is lost stays so
    assert text.count(".img") == text.count("replace_blank = false") == 6
    path.write_text(text)
    return directory


def queries():
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", panel["title"], target["expr"]


def texts_of(server, shape):
    """What each target shows."""
    where = server.metrics_endpoints if shape == "roles" else {"all": server.endpoint}
    return {name: fetch_metrics(endpoint) for name, endpoint in where.items()}


@pytest.mark.client
@pytest.mark.parametrize("shape", SHAPES_SLOW, indirect=True)
def test_every_panel_and_alert_has_data(
    start, prometheus, on_images, load_a_little, families, shape
):
    server = start(on_images, settings=QUICK)
    watching = prometheus(targets(server, shape))
    left = dict.fromkeys(queries())
    assert len(left) > 50

    def all_have_data():
        load_a_little(server)
        for query in list(left):
            _, title, expr = query
            values = watching.values(expr)
            if values and (title in NAN_ALLOWED or not all(map(math.isnan, values))):
                del left[query]
        return not left

    wait_for(all_have_data, lambda: f"no data: {list(left)}", watching.tail)

    # Names, types and helps are as Prometheus wants them.
    for name, text in texts_of(server, shape).items():
        asked = [shutil.which("promtool"), "check", "metrics"]
        done = subprocess.run(asked, input=text, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name

    # The alerts: all can be evaluated, on what is there.
    rules = [rule for group in watching.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    wait_for(
        lambda: all(
            rule["health"] == "ok"
            for group in watching.ask("rules")["groups"]
            for rule in group["rules"]
        ),
        lambda: watching.ask("rules"),
        watching.tail,
    )
    there = set(watching.ask("label/__name__/values"))
    for rule in rules:
        names = set(re.findall(r"\bobjectio_\w+|\bprocess_\w+|\bup\b", rule["query"]))
        assert names, rule
        assert names - {"process"} - ONLY_AT_TIMES <= there, rule["name"]
    for name in ONLY_AT_TIMES:
        assert name in families

    # A healthy store is silent; one that loses a disk is not.
    assert watching.ask("query", query='ALERTS{alertstate="firing"}')["result"] == []
    (on_images / "disks/3.img").rename(on_images / "disks/away.img")
    pending = 'ALERTS{alertname="ObjectIOOsdDown", osd="3"}'
    wait_for(lambda: watching.values(pending), lambda: "no alert", watching.tail)


@pytest.mark.client
@pytest.mark.slow
@pytest.mark.parametrize("shape", ["workers"], indirect=True)
def test_a_worker_that_dies_takes_no_counts_with_it(start, prometheus, connect, shape):
    server = start(settings=QUICK)
    watching = prometheus(targets(server, shape))
    up = 'objectio_process_up{process="gateway-0"}'
    heads = 'operation="HeadBucket", status="200"'
    s3 = connect(server)
    s3.create_bucket(Bucket="counted")

    def counted(process=".*"):
        count = f'objectio_s3_requests_total{{{heads}, process=~"{process}"}}'
        return watching.values(f"sum({count}) or vector(0)")[0]

    def ask(times):
        for _ in range(times):
            with contextlib.closing(connect(server)) as other:  # whichever worker accepts it
                other.head_bucket(Bucket="counted")

    def until(ask, what):
        wait_for(ask, lambda: what, watching.tail)

    ask(30)
    until(lambda: counted() == 30, "all requests are counted")
    before = server.pids()["gateway-0"]
    os.kill(before, signal.SIGKILL)
    until(lambda: server.pids().get("gateway-0") not in (before, None), "it is started again")
    until(lambda: watching.values(up) == [1], "it answers again")
    lost = 30 - counted("gateway-1")
    ask(20)
    until(lambda: counted() == 50 - lost, "only what the dead one had counted is gone")
    # It began anew, nobody else did: so Prometheus takes it as it takes any process.
    resets = "count by (process) (resets(objectio_event_loop_lag_seconds_count[5m]) > 0)"
    until(lambda: watching.values(resets), "a reset is seen")
    found = watching.ask("query", query=resets)["result"]
    assert {each["metric"]["process"] for each in found} == {"gateway-0"}
    rate = f"sum(increase(objectio_s3_requests_total{{{heads}}}[5m]))"
    assert 0 <= watching.values(rate)[0] <= 2 * 50
