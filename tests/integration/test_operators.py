"""What an operator does with a server from the command line: look, replace, drain, scrub, ask."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from objectio.testing.census import take_census
from objectio.testing.shapes import SHAPES_SLOW

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

MIB = 1 << 20
QUICK = {"osd.check_seconds": "0.2", "store.repair_interval_seconds": "0.5"}
_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


@pytest.fixture(params=SHAPES_SLOW)
def shape(request):
    return request.param


class Operator:
    """Runs `objectio …` in a process of its own, against one server."""

    def __init__(self, server, here):
        self.server = server
        self.here = here  # no ./objectio-data, no ~/.aws

    def run(self, *words, env=None, data=True):
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OBJECTIO_", "AWS_"))
        }
        clean |= {"HOME": str(self.here), "OBJECTIO_ENDPOINT": self.server.endpoint, **(env or {})}
        if data:
            words += ("--data", str(self.server.data_dir))
        return subprocess.run(
            [sys.executable, "-c", _MAIN, *words],
            capture_output=True,
            text=True,
            cwd=self.here,
            env=clean,
            timeout=120,
        )

    def json(self, *words, code=0, **more):
        done = self.run(*words, "-f", "json", **more)
        assert done.returncode == code, done
        return json.loads(done.stdout)

    def refused(self, *words, code=1, **more):
        done = self.run(*words, **more)
        assert done.returncode == code, done
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("objectio: ")
        return done.stderr

    def disk(self, osd):
        return self.json("disk", "show", str(osd))

    def wait_for(self, ask, seconds_max=30):
        deadline = time.monotonic() + seconds_max
        while not (answer := ask()):
            assert time.monotonic() < deadline, self.server.log_tail()
            time.sleep(0.05)
        return answer


@pytest.fixture
def operate(start, tmp_path):
    """A server without automatic replacement of disks, and its operator."""

    def operate_(**options):
        here = tmp_path / "here"
        here.mkdir()
        settings = {**QUICK, **options.pop("settings", {})}
        return Operator(start(settings=settings, **options), here)

    return operate_


def forbid_replacement(server):
    server.stop()
    path = server.data_dir / "objectio.toml"
    path.write_text(path.read_text().replace("replace_blank = true", "replace_blank = false"))
    server.start()


def fill(connect, server, objects=20, size=100_000):
    client = connect(server)
    client.create_bucket(Bucket="bucket")
    for number in range(objects):
        client.put_object(Bucket="bucket", Key=f"key{number}", Body=os.urandom(size))
    return client


def findings(operator, code):
    return operator.json("doctor", code=code)


def test_looking_at_a_healthy_server(operate, connect):
    operator = operate()
    fill(connect, operator.server)
    disks = operator.json("disk", "list")
    assert [disk["osd"] for disk in disks] == list(range(6))
    assert {disk["state"] for disk in disks} == {"up"}
    # Other processes tell of their disks now and then.
    operator.wait_for(lambda: all(disk["shards"] >= 20 for disk in operator.json("disk", "list")))
    shown = operator.disk(4)
    assert shown["path"] == str(operator.server.disk(4))
    assert shown["live_bytes"] > 20 * 25_000
    table = operator.run("disk", "show", "4").stdout
    assert "MiB" in table or "KiB" in table
    for words in (("repair", "status"), ("rebalance", "status"), ("meta", "status")):
        assert operator.json(*words)
    done = operator.run("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("Nothing is wrong.")
    assert "no scrub has finished yet" in " ".join(done.stdout.split())
    operator.json("scrub", "start", "--wait")
    assert "20 of 20 blobs healthy" in " ".join(operator.run("doctor").stdout.split())


@pytest.mark.slow
def test_scrubbing(operate, connect):
    operator = operate()
    fill(connect, operator.server, objects=5)
    assert operator.json("scrub", "status")["running"] is False
    said = operator.json("scrub", "start", "--wait")
    assert said["running"] is False
    assert (said["last_blobs"], said["last_healthy"], said["last_missing"]) == (5, 5, 0)
    assert said["last_shards"] >= 30  # the shards of the metadata journal are read too
    assert said["last_finished_ms"] >= said["last_begun_ms"] > 0
    assert operator.json("scrub", "status")["last_begun_ms"] == said["last_begun_ms"]
    again = operator.json("scrub", "start", "--wait")
    assert again["last_begun_ms"] > said["last_begun_ms"]


def test_a_disk_is_replaced_when_the_operator_says_so(operate, connect):
    operator = operate()
    server = operator.server
    client = fill(connect, server)
    forbid_replacement(server)
    before = operator.disk(2)
    shutil.rmtree(server.disk(2))
    operator.wait_for(lambda: operator.disk(2)["state"] == "down")
    found = findings(operator, code=1)
    [down] = [each for each in found if "OSD 2" in each["what"]]
    assert down["severity"] == "warning"
    assert "1 more disk may be lost" in down["meaning"]
    assert "objectio disk replace 2" in down["action"]
    assert "there is nothing at" in operator.refused("disk", "replace", "2")
    server.disk(2).mkdir()
    (server.disk(2) / "mine").write_text("precious")
    assert "was not replaced" in operator.refused("disk", "replace", "2")
    (server.disk(2) / "mine").unlink()
    assert operator.disk(2)["state"] == "down", "nobody said so yet"
    said = operator.json("disk", "replace", "2")
    assert said["state"] == "up"
    assert said["device_id"] != before["device_id"]
    operator.wait_for(
        lambda: not operator.disk(2)["refilling"] and operator.disk(2)["shards"] >= 20
    )
    assert "is in service" in operator.refused("disk", "replace", "2")
    assert operator.run("doctor").returncode == 0
    for number in range(20):
        client.get_object(Bucket="bucket", Key=f"key{number}")["Body"].read()


@pytest.mark.slow
def test_a_wiped_disk_is_told_of_with_what_to_do(operate, connect):
    operator = operate()
    server = operator.server
    fill(connect, server, objects=3)
    forbid_replacement(server)
    shutil.rmtree(server.disk(1))
    server.disk(1).mkdir()
    operator.wait_for(lambda: operator.disk(1)["state"] == "down")
    operator.wait_for(lambda: "is blank" in operator.disk(1)["reason"])
    done = operator.run("doctor")
    assert done.returncode == 1
    page = " ".join(done.stdout.split())
    assert "WARNING OSD 1" in page
    assert "objectio disk replace 1" in page
    shutil.rmtree(server.disk(4))
    operator.wait_for(lambda: operator.disk(4)["state"] == "down")
    found = findings(operator, code=2)
    assert found[0]["severity"] == "critical"


@pytest.mark.slow
def test_live_bytes_are_true_to_within_a_segment(operate, connect):
    operator = operate(
        settings={**QUICK, "osd.log.segment_bytes": str(MIB), "pool.stripe_size_bytes": str(MIB)}
    )
    server = operator.server
    client = fill(connect, server, objects=40, size=200_000)
    for number in range(0, 40, 2):
        client.delete_object(Bucket="bucket", Key=f"key{number}")
    operator.wait_for(lambda: server.metric("objectio_store_garbage_backlog") == 0)
    said = {disk["osd"]: disk for disk in operator.json("disk", "list")}
    server.stop()
    census = take_census(server.data_dir)
    assert not census.problems
    held = asyncio.run(_payload_bytes(server.data_dir))
    for osd, (shards, size) in held.items():
        # What the metadata journal wrote between the question and the end is within a segment.
        assert abs(said[osd]["shards"] - shards) <= 20
        assert abs(said[osd]["live_bytes"] - size) <= MIB
        assert said[osd]["live_bytes"] <= said[osd]["used_bytes"]


async def _payload_bytes(data_dir):
    """By OSD: shards and the bytes in them, counted on the device itself."""
    from objectio import builtin
    from objectio.config import load_config
    from objectio.meta import keys
    from objectio.meta.records import decode_cluster
    from objectio.plugin.loader import load_plugins
    from objectio.runtime.node import Node

    config = load_config(data_dir / "objectio.toml", env={})
    node = Node(config, load_plugins(disabled=(), builtin=(builtin,)))
    kv = node.open_kv()
    try:
        cluster_id = decode_cluster(kv.get(keys.CLUSTER)).cluster_id
    finally:
        await kv.close()
    factory, held = node.open_shardstores(), {}
    for disk in config.osd.disk:
        store = await factory.open(str(config.disk_path(disk)), cluster_id=cluster_id)
        infos = await store.scan(None, 1_000_000)
        held[disk.id] = len(infos), sum(info.length for info in infos)
        await store.close()
    return held


@pytest.mark.slow
def test_metrics_tell_the_same(operate, connect):
    pytest.importorskip("objectio_metrics_prometheus")
    operator = operate()
    server = operator.server
    fill(connect, server, objects=5)
    operator.wait_for(
        lambda: (
            server.metric("objectio_osd_shards")
            == sum(disk["shards"] for disk in operator.json("disk", "list"))
        )
    )
    assert server.metric("objectio_osd_up") == 6
    assert 0 <= server.metric("objectio_scrub_age_seconds") < 600
    operator.json("scrub", "start", "--wait")
    operator.wait_for(lambda: server.metric("objectio_scrub_found") >= 5)
    assert 0 <= server.metric("objectio_scrub_age_seconds") < 60
    forbid_replacement(server)
    shutil.rmtree(server.disk(0))
    operator.wait_for(lambda: server.metric("objectio_osd_up") == 5)


# Finding the server, and being let in.


@pytest.mark.slow
def test_credentials_come_from_where_they_are_said_to(operate):
    operator = operate()
    access_key, secret_key = operator.server.credentials
    ours = {"OBJECTIO_ACCESS_KEY": access_key, "OBJECTIO_SECRET_KEY": secret_key}
    aws = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    wrong = {"AWS_ACCESS_KEY_ID": "SOMEBODY", "AWS_SECRET_ACCESS_KEY": "something"}
    assert operator.json("disk", "list", env=ours, data=False)
    assert operator.json("disk", "list", env=aws, data=False)
    assert operator.json("disk", "list", env={**wrong, **ours}, data=False)
    assert operator.json("disk", "list", env=wrong), "what --data names goes first"
    profile = operator.here / ".aws/credentials"
    profile.parent.mkdir()
    profile.write_text(
        f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        "[other]\naws_access_key_id = SOMEBODY\naws_secret_access_key = something%\n"
    )
    assert operator.json("disk", "list", data=False)
    said = operator.refused("disk", "list", env={"AWS_PROFILE": "other"}, data=False, code=4)
    assert "There is no such access key" in said
    assert "the profile other in" in said
    said = operator.refused("disk", "list", env={"AWS_PROFILE": "none"}, data=False, code=2)
    assert "no keys for the profile none" in said
    profile.unlink()
    (operator.here / "objectio-data").symlink_to(operator.server.data_dir)
    assert operator.json("disk", "list", data=False)


def test_who_may_not_is_told_why(operate):
    operator = operate()
    access_key, secret_key = operator.server.credentials
    env = {"OBJECTIO_ACCESS_KEY": access_key, "OBJECTIO_SECRET_KEY": secret_key + "x"}
    said = operator.refused("disk", "list", env=env, data=False, code=4)
    assert "is the secret key right?" in said
    assert secret_key not in said
    assert "none were found" in operator.refused("disk", "list", data=False, code=4)
    half = {"OBJECTIO_ACCESS_KEY": access_key}
    assert "set both" in operator.refused("disk", "list", env=half, data=False, code=2)


@pytest.mark.slow
def test_a_server_without_authentication_needs_no_credentials(operate, shape):
    operator = operate(arguments=("--no-auth",))
    assert len(operator.json("disk", "list", data=False)) == 6
    done = operator.run("doctor", data=False)
    assert done.returncode == 0
    # Who has the metadata does not know with which flags a gateway was started.
    assert shape == "roles" or "Nobody has to authenticate" in done.stdout


def test_no_server_and_no_server_of_ours(operate, tmp_path):
    import http.server
    import socket
    import threading

    operator = operate()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        said = operator.refused("doctor", "-e", f"http://127.0.0.1:{port}", code=5)
        assert "cannot reach" in said
    assert "is not the address" in operator.refused("disk", "list", "-e", "localhost", code=2)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{other.server_address[1]}"
            assert "not an ObjectIO server" in operator.refused("disk", "list", "-e", endpoint)
        finally:
            other.shutdown()
            thread.join()


def test_over_tls(tmp_path):
    from objectio_api_admin.frontend import AdminFactory

    from objectio.abc.api import ApiContext
    from objectio.abc.metrics import NullMetrics
    from objectio.testing.objects import MemoryObjects
    from objectio.testing.serving import ACCESS_KEY, SECRET_KEY, FrontEndServer, make_tls

    context = ApiContext(MemoryObjects(), NullMetrics())  # answers that it manages nothing
    keys = {"OBJECTIO_ACCESS_KEY": ACCESS_KEY, "OBJECTIO_SECRET_KEY": SECRET_KEY}
    with FrontEndServer({"admin": AdminFactory().build(context)}, make_tls(tmp_path)) as server:
        operator = Operator(server, tmp_path)
        words = ("disk", "list", "-e", server.endpoint.replace("127.0.0.1", "localhost"))
        said = operator.refused(*words, env=keys, data=False, code=5)
        assert "is not trusted" in said
        assert "SSL_CERT_FILE" in said
        trusting = {**keys, "SSL_CERT_FILE": str(tmp_path / "cert.pem")}
        said = operator.refused(*words, env=trusting, data=False)
        assert "no part of this node manages storage" in said


def test_orders_that_make_no_sense(operate):
    operator = operate()
    assert "there is no OSD 17" in operator.refused("disk", "show", "17", code=3)
    assert "there is no OSD 17" in operator.refused("disk", "drain", "17", code=3)
    operator.refused("disk", "remove", "3")  # it is up


# Moving things.


def test_a_disk_is_drained_and_comes_back(operate, connect):
    operator = operate(disks=7)
    client = fill(connect, operator.server)
    total = operator.json("rebalance", "status")["groups"]
    said = operator.json("disk", "drain", "6")
    assert said["membership"] in ("draining", "out")
    operator.wait_for(lambda: operator.disk(6)["groups"] == 0, 60)
    operator.wait_for(lambda: operator.disk(6)["shards"] == 0, 60)
    [told] = [each for each in findings(operator, code=0) if "OSD 6" in each["what"]]
    assert told["severity"] == "info"
    assert "out of the configuration" in told["action"]
    assert sum(disk["groups"] for disk in operator.json("disk", "list")) == total * 6
    assert operator.json("disk", "undrain", "6")["membership"] == "in"
    operator.wait_for(lambda: operator.disk(6)["groups"] > 0, 60)
    for number in range(20):
        client.get_object(Bucket="bucket", Key=f"key{number}")["Body"].read()


@pytest.mark.slow
def test_a_disk_that_will_not_come_back_is_removed(operate, connect):
    operator = operate(disks=7)
    server = operator.server
    client = fill(connect, server)
    forbid_replacement(server)
    shutil.rmtree(server.disk(3))
    operator.wait_for(lambda: operator.disk(3)["state"] == "down")
    assert operator.json("disk", "remove", "3")["membership"] == "out"
    operator.wait_for(lambda: operator.disk(3)["groups"] == 0, 60)
    found = operator.wait_for(
        lambda: [each for each in findings(operator, code=0) if "OSD 3" in each["what"]]
    )
    assert [each["severity"] for each in found] == ["info"]
    for number in range(20):
        client.get_object(Bucket="bucket", Key=f"key{number}")["Body"].read()


def test_six_disks_cannot_do_with_five(operate):
    operator = operate()
    assert "cannot be drained" in operator.refused("disk", "drain", "2")
    assert operator.disk(2)["membership"] == "in"
