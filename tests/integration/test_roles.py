"""Roles in processes of their own: the quick start, whatever dies, and the supervisor."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from objectio.testing.cluster import LocalServer
from objectio.testing.roles import LocalCluster, RoleProcess, free_ports, health, wait_for

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMAND = re.compile(r"^```sh\n(objectio-(meta|osd|gateway) .*)\n```$", re.MULTILINE)
TERMINALS = {role: line for line, role in COMMAND.findall(README)}
FAST = {"osd.check_seconds": "0.2", "store.repair_interval_seconds": "0.5"}
SECONDS_MAX = 60
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(autouse=True)
def plugins():
    for plugin in ("api_s3", "kv_lmdb"):
        pytest.importorskip(f"objectio_{plugin}", reason=f"the plugin {plugin} is not installed")


def processes_of(pid):
    """The processes that one has started, by name: {"gateway-0": 123, …}."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (directory / "cmdline").read_bytes().decode().split("\0")
            if int(parent) == pid and state != "Z" and "--config" in command:
                path = command[command.index("--config") + 1]
                found[Path(path).stem] = int(directory.name)
    return found


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def refuses(endpoint):
    host, port = endpoint.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def put_some(s3, bucket, count, size=100_000):
    """{key: body} of what was stored."""
    bodies = {f"key-{number}": os.urandom(size + number) for number in range(count)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    return bodies


def check_all(s3, bucket, bodies):
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert {item["Key"] for item in listed} == set(bodies)
    for key, body in bodies.items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key


def eventually(call, what, seconds_max=SECONDS_MAX, tail=None):
    """The answer of `call`, which may fail for a while."""
    from botocore.exceptions import BotoCoreError, ClientError

    problems = []

    def ask():
        try:
            return [call()]
        except (ClientError, BotoCoreError) as error:
            problems.append(error)
            return None

    return wait_for(ask, what, seconds_max, lambda: f"{problems[-1:]}\n{tail() if tail else ''}")[0]


# The quick start.


@pytest.fixture
def terminals(tmp_path):
    """The three commands of the README as processes that were not started, and the gateway's URL."""
    ports = dict(zip(("9100", "9200", "9000"), free_ports(3), strict=True))
    made = {}
    for role, line in TERMINALS.items():
        for written, port in ports.items():
            line = line.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
        program, *arguments = shlex.split(line)
        made[role] = RoleProcess(tmp_path, role, program.removeprefix("objectio-"), *arguments)
    yield made, f"http://127.0.0.1:{ports['9000']}", f"http://127.0.0.1:{ports['9100']}"
    for process in made.values():
        process.kill()


def test_the_quick_start_is_what_was_promised():
    assert TERMINALS == {
        "meta": "objectio-meta --node-id 1 --listen 127.0.0.1:9100 --replication 1",
        "osd": "objectio-osd --listen 127.0.0.1:9200 --disks ./disk.img "
        "--meta-endpoint http://127.0.0.1:9100",
        "gateway": "objectio-gateway --listen 127.0.0.1:9000 "
        "--meta-endpoint http://127.0.0.1:9100 --no-auth",
    }


ORDERS = [
    ("meta", "osd", "gateway"),
    ("gateway", "osd", "meta"),
    pytest.param(("osd", "gateway", "meta"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("order", ORDERS)
def test_the_quick_start(terminals, tmp_path, order):
    made, endpoint, meta_endpoint = terminals
    aws = shutil.which("aws", path=PATH)
    if aws is None:
        pytest.skip("the AWS CLI is not installed")
    for role in order:
        made[role].start()
        if order is not ORDERS[0]:  # it is really waited for
            wait_for(
                lambda one=made[role]: (
                    is_there(one.pid) and not one.log_text().startswith("objectio:")
                ),
                role,
            )
    tail = lambda: "\n".join(one.log_tail() for one in made.values())  # noqa: E731
    wait_for(lambda: health(endpoint) == 200, "the gateway serves", tail=tail)
    image = (tmp_path / "disk.img").stat()
    assert image.st_size == 10 << 30
    assert image.st_blocks * 512 < 100 << 20

    def s3(*words):
        command = [aws, "--no-sign-request", "--endpoint-url", endpoint, "s3", *words]
        environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
            timeout=60,
        ).stdout  # fmt: skip

    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    (tmp_path / "small").write_bytes(b"hello")
    assert "make_bucket: first" in s3("mb", "s3://first")
    for name in ("large", "small"):
        s3("cp", name, f"s3://first/{name}")
    assert [line.split()[-1] for line in s3("ls", "s3://first").splitlines()] == ["large", "small"]
    for name in ("large", "small"):
        s3("cp", f"s3://first/{name}", f"{name}.copy")
        assert (tmp_path / f"{name}.copy").read_bytes() == (tmp_path / name).read_bytes()
    for role in ("gateway", "meta", "osd"):
        made[role].stop()


def test_the_command_line_finds_its_server_at_either_port(terminals, tmp_path):
    made, endpoint, meta_endpoint = terminals
    for process in made.values():
        process.start()
    wait_for(lambda: health(endpoint) == 200, "the gateway serves")

    def ask(where, *words):
        command = [sys.executable, "-m", "objectio", "-e", where, *words, "-f", "json"]
        return json.loads(subprocess.check_output(command, cwd=tmp_path, timeout=60))

    for where in (endpoint, meta_endpoint):
        status = ask(where, "cluster", "status")
        assert (status["state"], status["pool"]) == ("serving", "replicate:1+0")
        assert {node["role"] for node in status["nodes"]} == {"meta", "osd", "gateway"}
        assert all(node["alive"] for node in status["nodes"])
        (osd,) = ask(where, "cluster", "map")
        assert (osd["osd"], osd["in"]) == (0, True)
        (disk,) = ask(where, "disk", "list")
        assert (disk["osd"], disk["state"]) == (0, "up")
    meta_port = int(meta_endpoint.rpartition(":")[2])
    osd_port = int(made["osd"].arguments[2].rpartition(":")[2])
    for port in (meta_port, meta_port + 1, osd_port + 1):
        assert health(f"http://127.0.0.1:{port}") == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{osd_port + 1}/metrics", timeout=5) as answer:
        assert b"objectio_rpc_connections" in answer.read()


PORTS = "meta=9100 osd=9200 gateway=9000\n"


@pytest.mark.slow
def test_the_tutorial(tmp_path):
    if missing := [
        name for name in ("bash", "curl", "aws") if shutil.which(name, path=PATH) is None
    ]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    text = (ROOT / "docs/tutorial/separate-processes.md").read_text()
    script = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert script.count(PORTS) == 1
    meta, gateway = free_ports(2)
    script = script.replace(PORTS, f"meta={meta} osd={free_range(12)} gateway={gateway}\n")
    # In a session of its own, so that all of it can be ended.
    process = subprocess.Popen(
        ["bash", "-eu", "-c", script],
        cwd=tmp_path,
        env={
            "PATH": PATH,
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=180)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert "still there\n" in said
    assert re.search(r"^503$", said, re.MULTILINE)
    assert "OSD 0 up" in said


def free_range(count):
    """The first of so many free ports in a row."""
    for first in range(20_000, 32_000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no ports are free")


# Six OSDs at 4+2.


@pytest.fixture
def cluster(tmp_path):
    """`cluster(**options)`: a started `LocalCluster`, which is gone after the test."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def make(**options):
            directory = tmp_path / f"cluster{next(numbers)}"
            return stack.enter_context(LocalCluster(directory, **options))

        yield make


def test_six_osds_and_one_of_them_is_killed(cluster, connect):
    made = cluster(osds=6, meta=["--ec", "4+2"])
    s3 = connect(made)
    s3.create_bucket(Bucket="bucket")
    bodies = put_some(s3, "bucket", 20)
    made.osds[3].kill()
    check_all(s3, "bucket", bodies)
    for number in range(5):
        key, body = f"later-{number}", os.urandom(50_000)
        eventually(
            lambda key=key, body=body: s3.put_object(Bucket="bucket", Key=key, Body=body),
            "a write with five of six",
            tail=made.tail,
        )
        bodies[key] = body
    made.osds[3].start()
    check_all(s3, "bucket", bodies)


def test_the_shape_of_the_pool_need_not_be_said_again(cluster, connect):
    made = cluster(osds=1, meta=["--replication", "1"])
    s3 = connect(made)
    s3.create_bucket(Bucket="bucket")
    made.meta.stop()
    given = list(made.meta.arguments)
    at = given.index("--replication")
    made.meta.arguments = given[:at] + given[at + 2 :]
    made.meta.start()
    made.wait_healthy()
    bodies = {}
    eventually(lambda: bodies.update(put_some(s3, "bucket", 3)), "writes", tail=made.tail)
    check_all(s3, "bucket", bodies)


@pytest.mark.slow
def test_each_process_may_be_killed_and_comes_back(cluster, connect):
    made = cluster(osds=4, gateways=2, meta=["--ec", "2+1"])
    clients = [connect(made, gateway=number) for number in range(2)]
    clients[0].create_bucket(Bucket="bucket")
    bodies = {}
    for number, process in enumerate(made.processes):
        process.kill()
        process.start()
        made.wait_healthy()
        key, body = f"after-{process.name}", os.urandom(300_000)
        s3 = clients[number % 2]
        eventually(
            lambda s3=s3, key=key, body=body: s3.put_object(Bucket="bucket", Key=key, Body=body),
            f"a write after {process.name} came back",
            tail=made.tail,
        )
        bodies[key] = body
    for s3 in clients:
        check_all(s3, "bucket", bodies)


def test_a_gateway_finishes_requests_and_takes_no_new_ones(cluster, connect):
    made = cluster(osds=1, meta=["--replication", "1"])
    s3 = connect(made)
    s3.create_bucket(Bucket="bucket")
    body = os.urandom(30_000_000)
    s3.put_object(Bucket="bucket", Key="large", Body=body)
    found = s3.get_object(Bucket="bucket", Key="large")["Body"]
    first = found.read(1000)
    gateway = made.gateways[0]
    os.kill(gateway.pid, signal.SIGTERM)
    wait_for(lambda: refuses(made.endpoint), "new connections are refused")
    assert gateway.running
    assert first + found.read() == body
    wait_for(lambda: not gateway.running, "the gateway ends")
    gateway.start()
    made.wait_healthy()
    assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == body


@pytest.mark.slow
def test_lost_metadata_are_made_anew_from_the_disks(cluster, connect):
    made = cluster(osds=3, meta=["--ec", "2+1"])
    s3 = connect(made)
    s3.create_bucket(Bucket="bucket")
    bodies = put_some(s3, "bucket", 10)
    made.stop()
    shutil.rmtree(made.data_dir / "meta")
    disks = [f"disk{number}.img" for number in range(1, 3)]  # and one of them is lost too
    (made.directory / "disk0.img").unlink()
    rebuild = RoleProcess(
        made.directory, "rebuild", "meta", "rebuild", "--data", "objectio-data", "--disks", *disks
    ).start()
    wait_for(lambda: not rebuild.running, "it is rebuilt")
    assert "the metadata are in" in rebuild.log_text()
    for process in made.processes:
        if process is not made.osds[0]:
            process.start()
    made.wait_healthy()
    check_all(s3, "bucket", bodies)


def test_nobody_joins_without_the_secret(cluster, tmp_path):
    made = cluster(osds=1, meta=["--replication", "1"])
    wrong = tmp_path / "wrong.secret"
    wrong.write_text("ab" * 32)
    wrong.chmod(0o600)
    for role, more in (("gateway", []), ("osd", ["--disks", "other.img"])):
        arguments = ["--listen", "127.0.0.1:0", "--meta-endpoint", made.meta_endpoint, *more]
        process = RoleProcess(
            tmp_path, f"stranger-{role}", role, *arguments, "--secret", str(wrong)
        )
        process.start()
        wait_for(lambda one=process: not one.running, "it gives up", tail=process.log_tail)
        assert "proof" in process.log_text()


@pytest.mark.parametrize("role", ["gateway", "osd"])
def test_who_waits_can_be_told_to_stop(tmp_path, role):
    """For the secret at first, then for the process with the metadata."""
    more = ["--disks", "disk.img"] if role == "osd" else []
    process = RoleProcess(tmp_path, role, role, "--listen", "127.0.0.1:0", *more)
    for waits_for in ("waiting for the secret", "waiting for the metadata"):
        process.start()
        wait_for(
            lambda said=waits_for: said in process.log_text(), waits_for, tail=process.log_tail
        )
        process.stop()
        secret = tmp_path / "objectio-data/cluster.secret"
        secret.write_text("ab" * 32)
        secret.chmod(0o600)


def test_tls_between_all_of_them(cluster, connect, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, to make a certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    files = {"tls_cert_file": certificate, "tls_key_file": key, "tls_ca_file": certificate}
    common = [word for name, path in files.items() for word in ("--set", f"cluster.{name}={path}")]
    made = cluster(osds=1, meta=["--replication", "1"], common=common, scheme="https")
    s3 = connect(made)
    s3.create_bucket(Bucket="bucket")
    check_all(s3, "bucket", put_some(s3, "bucket", 3))
    command = [sys.executable, "-m", "objectio", "cluster", "status", "-e", made.meta_endpoint]
    environment = {**os.environ, "SSL_CERT_FILE": str(certificate)}
    said = subprocess.check_output(command, cwd=made.directory, env=environment, timeout=60)
    assert b"serving" in said
    with pytest.raises(OSError):  # nothing there speaks without TLS
        urllib.request.urlopen(made.meta_endpoint.replace("https", "http"), timeout=5)


# The supervisor.


def workers(count, *more):
    return ["--workers", str(count), *more]


@pytest.mark.slow
def test_a_directory_is_served_in_one_process_and_in_several_in_turns(start, connect):
    server = start(settings=FAST)
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    bodies = put_some(s3, "bucket", 10)
    for arguments in (workers(2), [], workers(3, "--osd-processes", "4"), []):
        server.stop()
        server._arguments = tuple(arguments)
        server.start()
        check_all(s3, "bucket", bodies)
        key, body = f"with-{len(bodies)}", os.urandom(2_000_000)
        s3.put_object(Bucket="bucket", Key=key, Body=body)
        bodies[key] = body
    # Nothing had to move or to be repaired because of it.
    with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "objectio_store_repair_backlog 0" in text


def test_several_processes_are_shown_as_one(start, connect):
    server = start(arguments=workers(2))
    found = processes_of(server.pid)
    assert set(found) == {"meta", "osd-0", "osd-1", "gateway-0", "gateway-1"}
    with urllib.request.urlopen(f"{server.endpoint}/health", timeout=5) as answer:
        said = json.load(answer)
    assert said == {"status": "ok", "processes": dict.fromkeys(sorted(found), "ok")}
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    check_all(s3, "bucket", put_some(s3, "bucket", 5))
    parser = pytest.importorskip("prometheus_client.parser")
    with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    shown = {
        sample.labels["process"]
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert shown == set(found)
    assert text.count("# TYPE objectio_process_up gauge") == 1
    run_dir = server.data_dir / "run"
    assert run_dir.stat().st_mode & 0o777 == 0o700
    assert re.search(r"^  data +\S+ \(6 disks, \S+:4\+2\)$", server.log_text(), re.MULTILINE)
    server.stop()
    assert not any(map(is_there, found.values()))


@pytest.mark.slow
def test_what_is_killed_comes_back(start, connect):
    server = start(arguments=workers(2), settings=FAST)
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    bodies = put_some(s3, "bucket", 10)
    children = processes_of(server.pid)
    assert len(children) == 5
    for name, pid in children.items():
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda name=name, pid=pid: processes_of(server.pid).get(name, pid) != pid,
            f"{name} is started again",
            tail=server.log_tail,
        )
        eventually(lambda: check_all(s3, "bucket", bodies) or True, name, tail=server.log_tail)
        key, body = f"after-{name}", os.urandom(400_000)
        eventually(
            lambda key=key, body=body: s3.put_object(Bucket="bucket", Key=key, Body=body),
            f"a write after {name} came back",
            tail=server.log_tail,
        )
        bodies[key] = body
    check_all(s3, "bucket", bodies)
    server.stop()


def test_nothing_is_left_of_a_supervisor_that_is_killed(start, connect):
    server = start(arguments=workers(1))
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    bodies = put_some(s3, "bucket", 5)
    children = processes_of(server.pid)
    assert len(children) == 3
    server.kill()
    wait_for(lambda: not any(map(is_there, children.values())), "the children end")
    server.start()
    check_all(s3, "bucket", bodies)


def test_a_signal_to_reload_ends_nothing(start, connect):
    server = start(arguments=workers(1))
    children = processes_of(server.pid)
    os.kill(server.pid, signal.SIGHUP)
    wait_for(
        lambda: server.log_text().count("no certificates to be read anew") == len(children),
        "all processes look for certificates",
        tail=server.log_tail,
    )
    assert processes_of(server.pid) == children
    assert connect(server).list_buckets()["Buckets"] == []
    server.stop()
    assert "Traceback" not in server.log_text()


def test_an_end_waits_for_requests_and_for_nothing_else(start, connect):
    server = start(arguments=workers(2))
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    body = os.urandom(30_000_000)
    s3.put_object(Bucket="bucket", Key="large", Body=body)
    found = s3.get_object(Bucket="bucket", Key="large")["Body"]
    first = found.read(1000)
    server.terminate()
    wait_for(lambda: refuses(server.endpoint), "new connections are refused")
    assert first + found.read() == body
    server.wait_stopped()
    server.start()
    assert server.stop() < 5


def test_a_supervisor_gives_up_on_what_cannot_start(tmp_path):
    """The metadata are another process', as long as that runs."""
    with LocalServer(tmp_path / "data") as server:
        second = LocalServer(tmp_path / "data", arguments=workers(1))
        second.log_path = tmp_path / "second.log"
        with pytest.raises(AssertionError, match="ended before"):
            second.start()
        assert "meta cannot be started (ended with 2): see above" in second.log_text()
        assert "is in use by another process" in second.log_text()
        assert server.healthy()


def test_two_gateways_at_once(start, connect, tmp_path):
    """Many clients of one bucket, dealt out to both; the port is nobody else's."""
    server = start(arguments=workers(2))
    s3 = connect(server, max_pool_connections=16)
    s3.create_bucket(Bucket="bucket")

    def put(number):
        body = os.urandom(10_000 + number)
        s3.put_object(Bucket="bucket", Key=f"key-{number}", Body=body)
        return f"key-{number}", body

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        bodies = dict(pool.map(put, range(200)))
    check_all(s3, "bucket", bodies)
    with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    served = re.findall(
        r'^objectio_s3_requests_total\{process="(gateway-\d)".* (\d+)', text, re.MULTILINE
    )
    counts = {name: sum(int(n) for one, n in served if one == name) for name, _ in served}
    assert set(counts) == {"gateway-0", "gateway-1"}
    address = server.endpoint.removeprefix("http://")
    second = LocalServer(tmp_path / "other", arguments=[*workers(1), "--listen", address])
    second.log_path = tmp_path / "second.log"
    with pytest.raises(AssertionError, match="ended before"):
        second.start()
    assert f"cannot listen on {address}" in second.log_text()
