"""What `objectio complete` prints, in a real bash."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from objectio.cli.app import main

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")

_ASK = r"""
source "$1"
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_LINE=$2 COMP_POINT=${#2}
_objectio 2>&1
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "objectio"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert main(["complete"]) == 0
    return path


@pytest.fixture
def complete(script):
    def ask(line):
        command = ["bash", "--norc", "-c", _ASK, "bash", str(script), line]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("objectio clu", ["cluster"]),
        ("objectio cluster ", ["events", "map", "status", "topology"]),
        ("objectio -e http://localhost:9100 user cr", ["create"]),
        ("objectio --endpoint http://localhost:9100 user cr", ["create"]),
        ("objectio -v disk dr", ["drain"]),
        ("objectio user list --acc", ["--account"]),
        ("objectio user list -f j", ["json"]),
        ("objectio cluster events --type sc", ["scrub"]),
        ("objectio user create --path /x/ --acc", ["--account"]),
        ("objectio meta ", ["rebuild", "status"]),
        ("objectio meta --li", ["--listen"]),
        ("objectio-meta --li", ["--listen"]),
        ("/usr/bin/objectio-meta --li", ["--listen"]),
        ("objectio group add", ["add-user"]),
        ("objectio help user cr", ["create"]),
        ("objectio --ver", ["--version", "--verbose"]),
        ("objectio serve --superv", []),  # a server's own
        ("objectio nonsense ", []),
        ("objectio object put bucket key ", []),  # names of files, by readline
        ("objectio kms list --data ", []),
    ],
)
def test_what_completes_a_line(complete, line, words):
    assert complete(line) == words


def test_every_command_is_known(complete):
    import importlib.metadata

    found = importlib.metadata.distribution("objectio").entry_points.select(group="objectio.cli")
    for entry in found:
        *before, last = entry.name.split("_")
        assert last in complete(" ".join(["objectio", *before, last])), entry.name


def test_at_a_prompt(script, tmp_path):
    """Readline and all: what TAB makes of a line."""
    (tmp_path / "document.json").write_text("{}")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ.update(TERM="dumb", PS1="$ ", INPUTRC="/dev/null")
        os.execlp("bash", "bash", "--norc", "--noprofile", "-i")
    try:
        _type(terminal, f"source {script}\n")
        _type(terminal, "objectio -e http://localhost:9100 policy cre\tmine docu\t\n")
        wanted = "objectio -e http://localhost:9100 policy create mine document.json"
        seen, deadline = "", time.monotonic() + 10
        while wanted not in seen:
            ready, *_ = select.select([terminal], [], [], deadline - time.monotonic())
            assert ready, seen
            seen += os.read(terminal, 4096).decode()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def _type(terminal, text):
    os.write(terminal, text.encode())
