"""Looking after processes: small real ones in place of those of a store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from objectio.config import Config
from objectio.config.schema import DiskSection, NodeSection, OsdSection
from objectio.errors import ConfigError, ObjectIOError
from objectio.runtime import supervisor
from objectio.runtime.children import Member, make_members, prepare_run_dir, write_config
from objectio.runtime.supervisor import Child

READY = """
import os, signal, sys, time
from objectio.cli.process import follow_supervisor
os.write(follow_supervisor(sys.argv[sys.argv.index("--supervised") + 1]), b"ready")
"""
SECONDS_MAX = 20


def child(script, name="one"):
    return Child(Member(name, "gateway", Config()), [sys.executable, "-c", script])


async def pid_of(kept, other_than=0):
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            await kept.ready.wait()
            if kept._process is not None and kept._process.pid != other_than:
                return kept._process.pid
            await asyncio.sleep(0.01)


async def test_what_is_killed_is_started_again_and_what_is_stopped_is_not():
    kept = child(READY + "time.sleep(600)")
    keeping = asyncio.ensure_future(kept.keep())
    first = await pid_of(kept)
    os.kill(first, signal.SIGKILL)
    second = await pid_of(kept, other_than=first)
    await kept.stop(keeping)
    assert keeping.done()
    assert not kept.ready.is_set()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_what_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_SECONDS_MAX", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    kept = child(deaf + READY + "time.sleep(600)")
    keeping = asyncio.ensure_future(kept.keep())
    await pid_of(kept)
    await asyncio.wait_for(kept.stop(keeping), SECONDS_MAX)


@pytest.mark.parametrize(("code", "error", "starts"), [(1, ObjectIOError, 3), (2, ConfigError, 1)])
async def test_what_can_never_be_started_is_given_up(tmp_path, code, error, starts):
    log = tmp_path / "starts"
    script = f"import sys; print('.', file=open({str(log)!r}, 'a')); sys.exit({code})"
    with pytest.raises(error, match=rf"one cannot be started \(ended with {code}\)"):
        await asyncio.wait_for(child(script).keep(), SECONDS_MAX)
    assert len(log.read_text().split()) == starts


async def test_a_signal_to_renew_waits_for_who_cannot_take_it_yet(tmp_path):
    """Before it has said that it is ready the signal would end it."""
    begun, go, told = tmp_path / "begun", tmp_path / "go", tmp_path / "told"
    script = f"""
import pathlib, signal, time
pathlib.Path({str(begun)!r}).touch()
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.01)
signal.signal(signal.SIGHUP, lambda *_: open({str(told)!r}, "a").write("."))
{READY}
while True:
    time.sleep(600)
"""
    kept = child(script)
    keeping = asyncio.ensure_future(kept.keep())

    async def until(condition):
        async with asyncio.timeout(SECONDS_MAX):
            while not condition():
                await asyncio.sleep(0.01)

    await until(begun.exists)
    pid = kept._process.pid
    kept.renew()
    kept.renew()
    go.touch()
    await until(lambda: told.exists() and told.read_text() == ".")
    kept.renew()
    await until(lambda: told.read_text() == "..")
    assert await pid_of(kept) == pid
    await kept.stop(keeping)


async def test_what_may_be_lacking_is_tried_on(tmp_path, monkeypatch):
    """It comes up as soon as what keeps it from that is mended."""
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS_MAX", 0.1)
    mended = tmp_path / "mended"
    script = f"import os, sys\nif not os.path.exists({str(mended)!r}): sys.exit(2)\n{READY}"
    kept = Child(
        Member("one", "osd", Config()),
        [sys.executable, "-c", script + "time.sleep(600)"],
        lambda: True,
    )
    keeping = asyncio.ensure_future(kept.keep())
    async with asyncio.timeout(SECONDS_MAX):
        while not kept.hopeless:
            await asyncio.sleep(0.01)
    mended.touch()
    await pid_of(kept)
    assert not kept.hopeless
    await kept.stop(keeping)


async def test_what_was_ready_once_is_never_given_up(tmp_path):
    log = tmp_path / "starts"
    script = f"print('.', file=open({str(log)!r}, 'a'))\n{READY}"
    kept = child(script + "sys.exit(1)")
    keeping = asyncio.ensure_future(kept.keep())
    async with asyncio.timeout(SECONDS_MAX):
        while not log.exists() or len(log.read_text().split()) <= supervisor.START_ATTEMPTS_MAX:
            await asyncio.sleep(0.01)
    assert not keeping.done()
    await kept.stop(keeping)


def test_nothing_is_left_of_a_supervisor_that_is_killed(tmp_path):
    """The child says its number through a file and would sleep for ten minutes."""
    told = tmp_path / "pid"
    inner = READY + f"open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    outer = (
        "import asyncio, sys\n"
        "from objectio.config import Config\n"
        "from objectio.runtime.children import Member\n"
        "from objectio.runtime.supervisor import Child\n"
        f"one = Child(Member('one', 'osd', Config()), [sys.executable, '-c', {inner!r}])\n"
        "asyncio.run(one.keep())\n"
    )
    with subprocess.Popen([sys.executable, "-c", outer]) as process:
        try:
            wait_for(lambda: told.exists() and told.read_text())
        finally:
            process.kill()
    pid = int(told.read_text())
    wait_for(lambda: not is_there(pid))


def is_there(pid):
    """A process that has ended and that nobody has waited for is not there."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Which processes.


@pytest.fixture
def config(tmp_path):
    disks = tuple(DiskSection(id=number, path=f"disks/{number}") for number in range(5))
    return Config(node=NodeSection(data_dir=str(tmp_path / "data")), osd=OsdSection(disk=disks))


def test_the_disks_are_shared_among_the_processes(config, tmp_path):
    members = make_members(config, 2, 3, tmp_path / "run")
    assert [member.name for member in members] == [
        *("meta", "osd-0", "osd-1", "osd-2", "gateway-0", "gateway-1"),
    ]
    shares = [[disk.id for disk in one.config.osd.disk] for one in members if one.role == "osd"]
    assert shares == [[0, 3], [1, 4], [2]]
    meta, osd, gateway = members[0].config, members[1].config, members[-1].config
    assert [one.node.roles for one in (meta, osd, gateway)] == [("meta",), ("osd",), ("gateway",)]
    assert meta.meta.listen == osd.cluster.meta_endpoint == gateway.cluster.meta_endpoint
    assert len({member.config.metrics.listen for member in members}) == len(members)
    assert osd.osd.host == "localhost"  # as one process says of its disks


def test_there_are_no_more_processes_than_disks(config, tmp_path):
    roles = [member.role for member in make_members(config, 8, None, tmp_path)]
    assert (roles.count("gateway"), roles.count("osd"), roles.count("meta")) == (8, 5, 1)


def test_what_each_process_is_given_is_what_it_reads(config, tmp_path):
    from objectio.config import load_config

    run_dir = prepare_run_dir(tmp_path)
    for member in make_members(config, 1, 2, run_dir):
        path = write_config(member, run_dir)
        assert path.stat().st_mode & 0o777 == 0o600
        found = load_config(path, env={})
        assert found.node == member.config.node
        assert found.osd == member.config.osd
        assert found.cluster == member.config.cluster
        assert found.disk_path(config.osd.disk[0]) == config.disk_path(config.osd.disk[0])


def test_the_directory_of_sockets_is_made_anew(tmp_path):
    run_dir = prepare_run_dir(tmp_path)
    (run_dir / "gateway-7.http").touch()
    assert prepare_run_dir(tmp_path) == run_dir == tmp_path / "run"
    assert list(run_dir.iterdir()) == []
    assert run_dir.stat().st_mode & 0o777 == 0o700


def test_a_path_too_long_for_a_socket_is_avoided(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = tmp_path / ("x" * 100)
    run_dir = prepare_run_dir(long)
    assert run_dir.parent == tmp_path
    assert run_dir == prepare_run_dir(long)
    assert run_dir != prepare_run_dir(tmp_path / ("y" * 100))


@pytest.mark.parametrize("section", ["meta", "osd"])
def test_a_configuration_for_several_machines_is_refused(config, tmp_path, section):
    from msgspec.structs import replace

    with_address = replace(getattr(config, section), listen="127.0.0.1:1")
    with pytest.raises(ConfigError, match="on this machine only"):
        make_members(replace(config, **{section: with_address}), 1, None, tmp_path)
