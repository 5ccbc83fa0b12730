"""The README's first session and the tutorial, run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
WHERE = "data=objectio-data endpoint=http://127.0.0.1:9000\n"
TUTORIAL = (ROOT / "docs/tutorial/first-store.md").read_text()


def test_every_block_is_known():
    serve, session, *terminals, install = BLOCKS
    assert serve == "make serve\n"
    # test_roles.py runs the terminals
    assert [line.split()[0] for line in terminals] == [
        "objectio-meta", "objectio-osd", "objectio-gateway",
    ]  # fmt: skip
    assert session.count(WHERE) == 1
    assert install.splitlines()[0] == "make wheels"  # and test_wheels.py runs the other line


@pytest.fixture
def data(tmp_path):
    """The directory of a server that `make serve` has started; `data.endpoint` is where it serves."""
    for plugin in ("api_s3", "metrics_prometheus"):
        pytest.importorskip(f"objectio_{plugin}", reason=f"the plugin {plugin} is not installed")
    if not (ROOT / ".venv/bin/objectio").exists():
        pytest.skip("there is no .venv: `make venv`")
    directory, log = tmp_path / "data", tmp_path / "serve.log"
    env = {key: text for key, text in os.environ.items() if key[:9] != "OBJECTIO_"}
    env["ARGS"] = f"--data {directory} --listen 127.0.0.1:0"
    env["MAKEFLAGS"] = "-o .venv/.done"  # what is there is taken as it is
    with log.open("wb") as output:
        process = subprocess.Popen(
            BLOCKS[0], shell=True, cwd=ROOT, env=env, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield directory, wait_for_endpoint(process, log)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_endpoint(process, log, seconds_max=30):
    deadline = time.monotonic() + seconds_max
    while not (found := re.search(r"^ObjectIO serves (\S+)\n", log.read_text(), re.MULTILINE)):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    with urllib.request.urlopen(f"{found[1]}/health", timeout=10) as answer:
        assert answer.status == 200
    return found[1]


def test_the_first_session_and_the_tutorial(data, tmp_path):
    directory, endpoint = data
    here = tmp_path / "here"
    here.mkdir()
    (here / ".venv").symlink_to(ROOT / ".venv")
    shutil.copytree(ROOT / "docs", here / "docs")
    # The one line that says where the server is; the rest is run to the letter.
    session = BLOCKS[1].replace(WHERE, f"data={directory} endpoint={endpoint}\n")
    session += "echo TUTORIAL\n" + "".join(BLOCK.findall(TUTORIAL))
    disks = {number: (directory / f"disks/{number}/log").stat().st_ino for number in (1, 4)}
    done = subprocess.run(
        ["sh", "-eu", "-c", session],
        cwd=here,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said, _, then = done.stdout.partition("TUTORIAL\n")
    assert "make_bucket: first" in said
    assert re.search(r"^ +PRE reference/$", said, re.MULTILINE)
    assert said.endswith("all there\n")
    assert "b'hello' {'language': 'en'}" in then
    assert "X-Amz-Signature=" in then
    assert re.search(r"^\| builtin +\| objectio +\|", then, re.MULTILINE)
    assert "nothing wrong" in then
    assert then.endswith("remove_bucket: first\n")
    assert {path.name for path in (here / "copy").iterdir()} >= {"reference", "tutorial"}
    for number, was in disks.items():  # blank disks were prepared in place of the lost ones
        assert (directory / f"disks/{number}/log").stat().st_ino != was
