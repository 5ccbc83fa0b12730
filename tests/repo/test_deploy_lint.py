"""What others' tools say of deploy/: yamllint, hadolint, helm, the schemas of Compose and Kubernetes.

None of them needs Docker or a cluster, and none of them asks a network. `make clients` installs them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.client

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/objectio"
CHOICES = {
    "as it is": {},
    "with everything": {
        "monitoring.podMonitor": True,
        "meta.storage.className": "slow",
        "osd.storage.className": "fast",
        "osd.replicas": 12,
        "tls.secretName": "store-tls",
        "shape": "8+4",
    },
}


def run(name, *words, where=ROOT, given=None):
    """The tool's answer, as (code, what it said)."""
    places = [os.environ.get("OBJECTIO_LINTERS_BIN", ""), str(ROOT / ".venv-clients/bin")]
    program = shutil.which(name, path=os.pathsep.join([*filter(None, places), os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"{name} is not installed: make clients")
    done = subprocess.run(
        [program, *map(str, words)],
        cwd=where,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def check(name, *words, **more):
    code, said = run(name, *words, **more)
    assert code == 0, said
    return said


@cache
def deploy_tests():
    spec = importlib.util.spec_from_file_location(
        "deploy_tests", ROOT / "tests/repo/test_deploy.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chart(choices):
    """What our own renderer makes of it."""
    changes = {name.replace(".", "__"): value for name, value in choices.items()}
    return deploy_tests().Chart(**changes).objects()


def settings(choices):
    words = []
    for name, value in choices.items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def test_yamllint():
    files = [CHART / "Chart.yaml", CHART / "values.yaml", DEPLOY / "compose", DEPLOY / "monitoring"]
    check("yamllint", "--strict", "-c", DEPLOY / "yamllint.yml", *files)


def test_hadolint(tmp_path):
    check("hadolint", DEPLOY / "docker/Dockerfile")
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    code, said = run("hadolint", bad)
    assert (code, "DL3004" in said) == (1, True)


def test_the_schema_of_compose(tmp_path):
    compose = DEPLOY / "compose/compose.yaml"
    words = ("--builtin-schema", "vendor.compose-spec")
    check("check-jsonschema", *words, compose)
    bad = tmp_path / "compose.yaml"
    bad.write_text(compose.read_text().replace("read_only: true", "readonly: true"))
    assert run("check-jsonschema", *words, bad)[0] == 1


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_the_schemas_of_kubernetes(version, name, tmp_path):
    made = tmp_path / "made.yaml"
    objects = [each for (kind, _), each in chart(CHOICES[name]).items() if kind != "PodMonitor"]
    made.write_text(yaml.safe_dump_all(objects))
    words = ("-k", version, "--strict")
    said = check("kubernetes-validate", *words, made)
    assert said.count("passed for resource") == len(objects), said
    made.write_text(made.read_text().replace("httpGet:", "httpget:"))
    assert run("kubernetes-validate", *words, made)[0] != 0


@pytest.mark.parametrize("name", CHOICES)
def test_helm(name):
    check("helm", "lint", "--strict", CHART, *settings(CHOICES[name]))
    words = ("template", "store", CHART, "--namespace", "s3", "--kube-version", "1.30")
    text = check("helm", *words, *settings(CHOICES[name]))
    made = [each for each in yaml.safe_load_all(text) if each is not None]
    # Our tests look at what their own small renderer makes: it is the same.
    found = {(each["kind"], each["metadata"]["name"]): each for each in made}
    assert found == chart(CHOICES[name])
