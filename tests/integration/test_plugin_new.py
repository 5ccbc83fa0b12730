"""A plugin of each kind, as its author would make it: written by the command, installed into an
environment of its own, tested there, and used by a server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import pytest

from objectio.cli.scaffold import render, spellings
from objectio.plugin.kinds import KINDS
from objectio.testing.cluster import LocalServer

QUICK = ("codec", "kms")
SECONDS_MAX = 280

# What its README says to write into objectio.toml.
USED_BY = {
    "exporter": ["metrics.exporter=mine"],
    "filter": ["kv.filters=mine", "filter.mine.slow_seconds=5"],
    "codec": ["pool.family=mine-parity", "pool.parity_shards=1"],
    "kv": ["kv.driver=mine", "kv.mine.busy_seconds=5"],
    "kms": ["kms.driver=mine"],
    "placement": ["pool.placement=mine"],
    "shardstore": ["osd.driver=mine"],
    "sink": ["sinks.mine.path=/dev/null"],
    "api": ["gateway.apis=mine"],
    "role": ["node.roles=osd,meta,gateway,mine"],
}


class Environment:
    """Python with what this one has, and room for a plugin of its own."""

    def __init__(self, directory):
        self.directory = directory
        venv.create(directory, with_pip=False, symlinks=True)
        here = sysconfig.get_paths()["purelib"]
        theirs = directory / "lib" / Path(here).parent.name / "site-packages"
        (theirs / "ours.pth").write_text(f"import site; site.addsitedir({here!r})\n")
        self.python = directory / "bin" / "python"

    def run(self, *words, cwd=None, code=0):
        clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            [str(self.python), *map(str, words)],
            cwd=cwd,
            env={**clean, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def objectio(self, *words, **more):
        main = "import sys; from objectio.cli.app import main; sys.exit(main())"
        return self.run("-c", main, *words, **more)

    def install(self, *folders):
        self.run(
            *("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"),
            *("--no-deps", "--no-build-isolation", *folders),
        )


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "venv")


KIND_MARKS = [
    kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS
]


@pytest.mark.parametrize("kind", KIND_MARKS)
def test_a_new_plugin_passes(kind, environment, tmp_path):
    environment.objectio("plugin", "new", kind, "mine", cwd=tmp_path)
    entry, distribution, package = spellings(kind, "mine")
    folder = tmp_path / entry
    environment.install(folder)
    said = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert " passed" in said
    assert "failed" not in said
    environment.run("-m", "mypy", "--cache-dir", tmp_path / "mypy", cwd=folder)
    shown = json.loads(environment.objectio("plugin", "show", entry, "-f", "json"))
    assert (shown["distribution"], shown["version"]) == (distribution, "0.1.0")
    assert (shown["module"], shown["status"], shown["error"]) == (f"{package}.plugin", "ok", "")
    # A filter's kind says what it wraps, as in "filter.kv".
    assert re.match(rf"{kind}(\.kv)? mine: ", shown["drivers"][0])
    settings = [word for text in USED_BY.get(kind, ()) for word in ("--set", text)]
    assert environment.objectio("config", "check", *settings).endswith("nothing wrong\n")
    # It has the name now.
    environment.objectio("plugin", "new", kind, "mine", cwd=folder, code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "right", "wrong", "found_by"),
    [
        ("codec", "total ^=", "total |=", "test_every_loss_is_rebuilt"),
        ("filter", "self._inner.close()", "pass", "test_closing_closes_the_engine"),
        ("filter", "return self._inner.get(key)", "return None", "test_values_are_kept"),
        ("role", "self._task is not None", "self._task is None", "test_nothing_goes_on"),
        ("role", '"ok": not self._failure', '"ok": False', "test_it_starts_is_well_and_stops"),
        ("target", "self._buffer += data", "self._buffer = bytearray(data)", "test_pieces_mean"),
        ("target", "isinstance(result, Exception)", "False", "test_an_error_is_answered"),
        ("transport", "), body, payload)", "), body, body)", "test_there_and_back"),
        ("transport", "(OSError, EOF", "(EOF", "test_an_answer_that_does_not_come"),
    ],
)
def test_the_tests_of_a_new_plugin_can_fail(tmp_path, kind, right, wrong, found_by):
    folder = tmp_path / spellings(kind, "mine")[0]
    for path, text in render(kind, "mine").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    module = folder / spellings(kind, "mine")[2] / "plugin.py"
    text = module.read_text()
    assert right in text
    module.write_text(text.replace(right, wrong))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", found_by],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 1, done.stdout
    assert f"{found_by}" in done.stdout.rpartition("short test summary")[2]


@pytest.mark.slow
def test_a_server_made_of_new_plugins(environment, tmp_path):
    """Engine, key manager, filter, codec, placement, devices, metrics, front end, sink and role."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    folders = []
    for kind in USED_BY:
        environment.objectio("plugin", "new", kind, "mine", cwd=tmp_path)
        folders.append(tmp_path / spellings(kind, "mine")[0])
    environment.install(*folders)
    events = tmp_path / "events.jsonl"
    settings = {kind: [*texts] for kind, texts in USED_BY.items()}
    settings["sink"] = [f"sinks.mine.path={events}"]
    settings["api"] = []  # all that are installed
    words = [word for texts in settings.values() for text in texts for word in ("--set", text)]
    data = os.urandom(300_000)
    with Server(environment, tmp_path / "data", words) as server:
        with contextlib.closing(boto3.client("s3", **server.s3_settings())) as client:
            client.create_bucket(Bucket="bucket")
            wanted = {"QueueArn": "arn:objectio:sqs:::mine", "Events": ["s3:ObjectCreated:*"]}
            client.put_bucket_notification_configuration(
                Bucket="bucket", NotificationConfiguration={"QueueConfigurations": [wanted]}
            )
            client.put_object(Bucket="bucket", Key="key", Body=data, ServerSideEncryption="aws:kms")
        server.kill()
        server.start()
        with contextlib.closing(boto3.client("s3", **server.s3_settings())) as client:
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == data
        until(lambda: events.is_file() and "ObjectCreated:Put" in events.read_text())
        with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=30) as answer:
            shown = json.load(answer)
        assert any(each["name"] == "objectio_s3_requests_total" for each in shown)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.endpoint}/mine/bucket/key", timeout=30)
        with refused.value as answer:
            assert json.load(answer)["error"] == "who are you?"
        until(lambda: list((tmp_path / "data").rglob("alive")))
        assert len(list((tmp_path / "data" / "disks").rglob("*.shard"))) > 0
        assert len(list((tmp_path / "data").rglob("kv.sqlite"))) == 1


class Server(LocalServer):
    """Run by the Python of an environment."""

    def __init__(self, environment, data_dir, arguments):
        super().__init__(data_dir, arguments=arguments)
        self._python = environment.python

    def command(self, listen="127.0.0.1:0"):
        return [str(self._python), *super().command(listen)[1:]]


def until(ask):
    deadline = time.monotonic() + 60
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer
