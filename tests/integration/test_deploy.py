"""The processes of the compose file and of the chart, without the containers: together they are a
store, and say to probes how they are."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from objectio.testing.cluster import LocalServer
from objectio.testing.roles import RoleProcess, free_ports, health, wait_for
from objectio.testing.tls import make_certificate

for needed in ("objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
START_SECONDS_MAX = 120


def instruction(role, keyword):
    """Of the image of that name."""
    text = (DEPLOY / "docker/Dockerfile").read_text()
    _, _, target = text.partition(f"FROM base AS {role}\n")
    [line] = [line for line in target.splitlines() if line.startswith(keyword)][:1]
    return json.loads(line.partition(" ")[2])


def entry_point(role):
    """What comes before a service's command."""
    return instruction(role, "ENTRYPOINT")[1:]


@pytest.fixture
def processes(tmp_path):
    """By name, started. What containers have of their own, addresses and directories, is put in."""
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    services = compose["services"]
    ports = dict(zip(services, free_ports(len(services)), strict=True))
    found = {}
    with contextlib.ExitStack() as stack:
        for name, service in services.items():
            role = name.partition("-")[0]
            words = [*entry_point(role), *service["command"]]
            env = dict(service["environment"])
            for listen in ("9000", "9100", "9200"):
                words = [
                    word.replace(f"0.0.0.0:{listen}", f"127.0.0.1:{ports[name]}") for word in words
                ]
            places = {
                "/var/lib/objectio": str(tmp_path / "cluster"),
                "/disk/": f"{tmp_path / name}/",
            }
            for other, port in ports.items():
                listen = {"meta": 9100, "gateway": 9000}.get(other, 9200)
                places[f"{other}:{listen}"] = f"127.0.0.1:{port}"
            for there, here in places.items():
                words = [word.replace(there, here) for word in words]
                env = {key: value.replace(there, here) for key, value in env.items()}
            found[name] = RoleProcess(tmp_path, name, *words, env=env)
            stack.callback(found[name].kill)
        for process in found.values():
            process.start()
        yield found, ports


def connected(endpoint, access_key, secret_key, **more):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        **more,
    )
    return contextlib.closing(s3)


def test_the_compose_file_makes_a_store(processes, tmp_path):
    started, ports = processes
    endpoint = f"http://127.0.0.1:{ports['gateway']}"
    wait_for(
        lambda: health(endpoint) == 200,
        "the gateway serves",
        START_SECONDS_MAX,
        lambda: "\n".join(process.log_tail(5) for process in started.values()),
    )
    keys = json.loads((tmp_path / "cluster/credentials.json").read_text())
    with connected(endpoint, keys["access_key"], keys["secret_key"]) as s3:
        s3.create_bucket(Bucket="composed")
        s3.put_object(Bucket="composed", Key="key", Body=b"x" * 100_000)
        assert s3.get_object(Bucket="composed", Key="key")["Body"].read() == b"x" * 100_000
    assert sum((tmp_path / f"osd-{number}/log").exists() for number in range(6)) == 6
    for port in (ports["gateway"], ports["meta"] + 1, ports["osd-3"] + 1):
        assert healthy(port) == (0, "")
    # Without the metadata the gateway is there, and of no use.
    started["meta"].stop()
    wait_for(lambda: healthy(ports["gateway"])[0] == 1, "the gateway is not ready")
    assert healthy(ports["gateway"]) == (1, "not ready: 503\n")
    assert healthy(ports["meta"] + 1)[0] == 1
    assert healthy(ports["osd-3"] + 1) == (0, "")


def healthy(port):
    """What Docker asks every few seconds: how that ends, and what it says."""
    asked = [sys.executable, DEPLOY / "docker/healthy.py", str(port)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr


@pytest.mark.parametrize("target", ["serve", "meta"])
def test_an_image_without_arguments(target, tmp_path):
    """What a container runs whom nobody tells anything."""
    [port] = free_ports(1)
    words = [*entry_point(target), *instruction(target, "CMD")]
    listen = words.index("--listen") + 1
    words[listen] = f"127.0.0.1:{port}"
    words[words.index("--data") + 1] = str(tmp_path / "data")
    process = RoleProcess(tmp_path, target, *words)
    shown = port if target == "serve" else port + 1
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        process.start()
        # The metadata alone are there, and wait for OSDs.
        wanted = (0, "") if target == "serve" else (1, "not ready: 503\n")
        wait_for(lambda: healthy(shown) == wanted, target, START_SECONDS_MAX, process.log_tail)
        process.stop()


def test_docker_is_told_how_a_server_with_tls_is(tmp_path):
    with LocalServer(tmp_path / "data", tls=True) as server:
        assert healthy(int(server.endpoint.rpartition(":")[2])) == (0, "")


# The chart.

POD_KEYS = {"access-key": "admin", "secret-key": "a secret key of the chart's test"}


def load_chart():
    path = Path(__file__).parents[1] / "repo/test_deploy.py"
    spec = importlib.util.spec_from_file_location("chart_of_deploy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pod:
    """What Kubernetes does with a pod of the chart: its init container, its arguments, its probes."""

    def __init__(self, directory, keys, role, number, spec, ports):
        [self.container] = spec["containers"]
        [self._init] = spec["initContainers"]
        self.name = f"store-{role}-{number}"
        self.data = directory / self.name
        self.data.mkdir()
        self._keys = keys
        own = ports[self.name]
        self.http_port = own if role == "gateway" else own + 1
        self._places = {
            f"{self.name}.store-osd:9200": f"127.0.0.1:{own}",
            "store-meta:9100": f"127.0.0.1:{ports['store-meta-0']}",
            "0.0.0.0:9101": f"127.0.0.1:{own + 1}",
            "0.0.0.0:9201": f"127.0.0.1:{own + 1}",
        } | {f"0.0.0.0:{listen}": f"127.0.0.1:{own}" for listen in (9000, 9100, 9200)}
        known = {"spec.nodeName": f"node-{number}", "metadata.name": self.name}
        self.env = {}
        for variable in self.container["env"]:
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                self.env[variable["name"]] = known[source["fieldRef"]["fieldPath"]]
            elif source:
                self.env[variable["name"]] = POD_KEYS[source["secretKeyRef"]["key"]]
            else:
                self.env[variable["name"]] = variable["value"].replace("/tls/", f"{keys}/")
        words = map(self._here, [*entry_point(role), *self.container["args"]])
        self.process = RoleProcess(directory, self.name, *words, env=self.env)

    def _here(self, word):
        word = re.sub(r"\$\((\w+)\)", lambda match: self.env[match[1]], word)
        for there, here in self._places.items():
            word = word.replace(there, here)
        return word.replace("/var/lib/objectio", str(self.data))

    def start(self):
        words = [*self._init["command"], *self._init["args"]]
        words = [self._here(word).replace("/keys/", f"{self._keys}/") for word in words]
        subprocess.run(words, check=True, timeout=30)
        self.process.start()

    def probe(self, kind):
        """The status that the kubelet gets; 0 if nobody answers."""
        asked = self.container[kind]["httpGet"]
        assert asked["port"] == asked["scheme"].lower()
        url = f"{asked['port']}://127.0.0.1:{self.http_port}{asked['path']}"
        unverified = ssl._create_unverified_context()  # as the kubelet's
        try:
            with urllib.request.urlopen(url, timeout=10, context=unverified) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


def make_keys(directory):
    """As docs/howto/deploy.md says it: by a first start that is stopped again."""
    directory.mkdir()
    [port] = free_ports(1)
    words = ("meta", "--data", str(directory), "--listen", f"127.0.0.1:{port}")
    process = RoleProcess(directory, "keys", *words)
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        process.start()
        files = [directory / name for name in ("cluster.secret", "keyring.json")]
        wait_for(
            lambda: all(file.exists() for file in files),
            "the keys of a cluster",
            START_SECONDS_MAX,
            process.log_tail,
        )
        os.kill(process.pid, signal.SIGINT)
        wait_for(lambda: not process.running, "Ctrl-C", START_SECONDS_MAX, process.log_tail)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_chart_makes_a_store(tmp_path, scheme):
    chart = load_chart()
    secret = "store-tls" if scheme == "https" else ""
    objects = chart.Chart(tls__secretName=secret).objects()
    specs = {role: objects[place]["spec"] for role, place in chart.WORKLOADS.items()}
    counts = {role: spec["replicas"] for role, spec in specs.items()}
    assert counts == {"meta": 1, "osd": 6, "gateway": 2}
    names = [f"store-{role}-{n}" for role, count in counts.items() for n in range(count)]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    keys = make_keys(tmp_path / "keys")
    authority = make_certificate(keys / "tls.crt")
    shutil.copy(authority, keys / "tls.key")
    pods = {}
    with contextlib.ExitStack() as stack:
        for role, count in counts.items():
            for number in range(count):
                spec = specs[role]["template"]["spec"]
                pod = Pod(tmp_path, keys, role, number, spec, ports)
                pods[pod.name] = pod
                stack.callback(pod.process.kill)
                pod.start()

        def logs():
            return "\n".join(pod.process.log_tail(5) for pod in pods.values())

        for pod in pods.values():
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                wait_for(
                    lambda pod=pod, kind=kind: pod.probe(kind) == 200,
                    f"{kind} of {pod.name}",
                    START_SECONDS_MAX,
                    logs,
                )
        first, second = (f"{scheme}://127.0.0.1:{ports[f'store-gateway-{n}']}" for n in range(2))
        with connected(first, *POD_KEYS.values(), verify=str(authority)) as s3:
            s3.create_bucket(Bucket="charted")
            s3.put_object(Bucket="charted", Key="key", Body=b"x" * 100_000)
        with connected(second, *POD_KEYS.values(), verify=str(authority)) as s3:
            assert s3.get_object(Bucket="charted", Key="key")["Body"].read() == b"x" * 100_000
        # Without the metadata gateways get no requests, and nobody starts them anew for it.
        pods["store-meta-0"].process.kill()
        gateway = pods["store-gateway-0"]
        wait_for(
            lambda: gateway.probe("readinessProbe") == 503, "not ready", START_SECONDS_MAX, logs
        )
        assert gateway.probe("livenessProbe") == 200
        assert pods["store-osd-0"].probe("readinessProbe") == 200
