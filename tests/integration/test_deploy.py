"""The processes of the compose file, without the containers: together they are a store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from objectio.testing.roles import RoleProcess, free_ports, health, wait_for

for needed in ("objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
START_SECONDS_MAX = 120


def entry_point(role):
    """Of the image of that name: what comes before a service's command."""
    text = (DEPLOY / "docker/Dockerfile").read_text()
    _, _, target = text.partition(f"FROM base AS {role}\n")
    [line] = [line for line in target.splitlines() if line.startswith("ENTRYPOINT")][:1]
    return json.loads(line.partition(" ")[2])[1:]


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


def test_the_compose_file_makes_a_store(processes, tmp_path):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    started, ports = processes
    endpoint = f"http://127.0.0.1:{ports['gateway']}"
    wait_for(
        lambda: health(endpoint) == 200,
        "the gateway serves",
        START_SECONDS_MAX,
        lambda: "\n".join(process.log_tail(5) for process in started.values()),
    )
    keys = json.loads((tmp_path / "cluster/credentials.json").read_text())
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"],
        region_name="us-east-1",
    )
    with contextlib.closing(s3):
        s3.create_bucket(Bucket="composed")
        s3.put_object(Bucket="composed", Key="key", Body=b"x" * 100_000)
        assert s3.get_object(Bucket="composed", Key="key")["Body"].read() == b"x" * 100_000
    assert sum((tmp_path / f"osd-{number}/log").exists() for number in range(6)) == 6
    # What Docker asks every few seconds.
    for port in (ports["gateway"], ports["meta"] + 1, ports["osd-3"] + 1):
        asked = [sys.executable, DEPLOY / "docker/healthy.py", str(port)]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
