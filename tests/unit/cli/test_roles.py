"""What the flags of `objectio meta`, `osd` and `gateway` make of the configuration."""

from __future__ import annotations

import contextlib
import socket

import pytest

from objectio.cli.app import ObjectIOApp, UsageError
from objectio.cli.roles import Gateway, Meta, Osd
from objectio.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A directory to be in, and an environment that says nothing."""
    import os

    for name in [name for name in os.environ if name.startswith("OBJECTIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(command, *flags):
    made = command(ObjectIOApp(), None, cmd_name=command.role)
    args = made.get_parser("objectio").parse_args(flags)
    try:
        return made.configure(args)
    finally:
        if (taken := getattr(args, "metrics_listener", None)) is not None:
            taken.close()


def test_the_quick_start(here):
    meta = configure(Meta, *["--node-id", "1", "--listen", "127.0.0.1:9100", "--replication", "1"])
    assert meta.node.name == "meta-1"
    assert meta.node.roles == ("meta",)
    assert meta.data_dir == here / "objectio-data"
    assert meta.meta.listen == "127.0.0.1:9100"
    assert (meta.pool.family, meta.pool.data_shards, meta.pool.parity_shards) == ("replicate", 1, 0)
    flags = "--listen 127.0.0.1:9200 --disks ./disk.img --meta-endpoint http://127.0.0.1:9100"
    osd = configure(Osd, *flags.split())
    assert osd.node.roles == ("osd",)
    assert osd.data_dir == meta.data_dir
    assert osd.osd.listen == "127.0.0.1:9200"
    (disk,) = osd.osd.disk
    assert osd.disk_path(disk) == here / "disk.img"
    assert disk.size_bytes == 10 << 30
    assert disk.id == -1
    assert osd.cluster.meta_endpoint == "http://127.0.0.1:9100"
    flags = "--listen 127.0.0.1:9000 --meta-endpoint http://127.0.0.1:9100 --no-auth"
    gateway = configure(Gateway, *flags.split())
    assert gateway.gateway.listen == "127.0.0.1:9000"
    assert not gateway.gateway.auth
    assert len({one.node.name for one in (meta, osd, gateway)}) == 3


def test_the_quick_start_is_also_the_default(here):
    assert configure(Meta).meta.listen == "127.0.0.1:9100"
    assert configure(Osd, "--disks", "a").osd.listen == "127.0.0.1:9200"
    assert configure(Gateway).cluster.meta_endpoint == "http://127.0.0.1:9100"
    pool = configure(Meta).pool
    assert (pool.data_shards, pool.parity_shards) == (4, 2)


@pytest.mark.parametrize(
    ("flags", "pool"),
    [
        (["--replication", "3"], ("replicate", 1, 2)),
        (["--ec", "4+2"], ("rs-cauchy-0x11d", 4, 2)),
        (["--ec", "8+4", "--set", "pool.family=replicate"], ("rs-cauchy-0x11d", 8, 4)),
        (["--ec", "2+1", "--set", "pool.family=rs-x"], ("rs-x", 2, 1)),
    ],
)
def test_pools(flags, pool):
    found = configure(Meta, *flags).pool
    assert (found.family, found.data_shards, found.parity_shards) == pool


def test_the_pool_in_use_is_kept_where_nobody_says_another(here):
    assert configure(Meta).meta.keep_pool
    assert not configure(Meta, "--ec", "4+2").meta.keep_pool
    assert not configure(Meta, "--replication", "3").meta.keep_pool
    assert not configure(Meta, "--set", "pool.data_shards=2").meta.keep_pool
    assert configure(Meta, "--ec", "4+2", "--set", "meta.keep_pool=true").meta.keep_pool
    (here / "my.toml").write_text("[node]\nname = 'm'\n")
    assert not configure(Meta, "--config", "my.toml").meta.keep_pool


def test_disks_that_are_there_keep_their_size(here):
    (here / "image").write_bytes(bytes(1 << 20))
    (here / "directory").mkdir()
    flags = ["--disks", "image", "directory", "new", "--disks", "files/", "--size", "1G"]
    disks = configure(Osd, *flags).osd.disk
    assert [disk.size_bytes for disk in disks] == [0, 0, 1 << 30, 0]
    assert [disk.path for disk in disks] == [
        str(here / name) for name in ("image", "directory", "new", "files")
    ]


def test_metrics_are_at_the_next_port_unless_it_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert configure(Meta, "--listen", f"127.0.0.1:{port - 1}").metrics.listen == ""
    found = configure(Meta, "--listen", f"127.0.0.1:{port - 1}")
    assert found.metrics.listen == f"127.0.0.1:{port}"
    for said in ("", "127.0.0.1:1"):
        flags = ["--listen", "127.0.0.1:2", "--metrics-listen", said]
        assert configure(Meta, *flags).metrics.listen == said


def test_a_file_says_what_the_flags_do_not(here, monkeypatch):
    path = here / "my.toml"
    path.write_text(
        '[node]\nname = "mine"\ndata_dir = "var"\n[meta]\nlisten = "127.0.0.1:1"\n'
        '[cluster]\nmeta_endpoint = "http://127.0.0.1:1"\n'
        '[osd]\nlisten = "127.0.0.1:2"\n[[osd.disk]]\nid = 7\npath = "disk"\n'
    )
    meta = configure(Meta, "--config", str(path))
    assert (meta.node.name, meta.meta.listen) == ("mine", "127.0.0.1:1")
    assert meta.cluster.meta_endpoint == ""  # it has the metadata itself
    assert meta.data_dir == here / "var"
    osd = configure(Osd, "--config", str(path), "--node-id", "two")
    assert (osd.node.name, osd.osd.listen) == ("two", "127.0.0.1:2")
    assert [disk.id for disk in osd.osd.disk] == [7]
    monkeypatch.setenv("OBJECTIO_OSD_LISTEN", "127.0.0.1:3")
    assert configure(Osd, "--config", str(path)).osd.listen == "127.0.0.1:3"
    assert configure(Osd, "--config", str(path), "--listen", "127.0.0.1:4").osd.listen[-1] == "4"


def test_the_file_of_the_directory_is_read(here):
    directory = here / "data"
    directory.mkdir()
    (directory / "objectio.toml").write_text('[node]\ndata_dir = "."\n[pool]\nparity_shards = 1\n')
    found = configure(Meta, "--data", str(directory))
    assert found.pool.parity_shards == 1
    assert found.data_dir == directory


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (Osd, [], "which disks"),
        (Osd, ["--disks", "a", "./a"], "two of the disks"),
        (Meta, ["--replication", "0"], "once at least"),
        (Meta, ["--ec", "60+9"], "may not exceed"),
        (Meta, ["--config", "x", "--data", "y"], "leave --data away"),
        (Meta, ["--node-id", "a b"], "63 letters"),
        (Gateway, ["--meta-endpoint", "nonsense"], "meta_endpoint"),
    ],
)
def test_what_is_refused(command, flags, words):
    with pytest.raises(ConfigError, match=words):
        configure(command, *flags)


def test_a_word_behind_a_command_with_subcommands_is_a_mistake():
    with pytest.raises(UsageError, match="did you mean meta status"):
        ObjectIOApp().command_manager.find_command(["meta", "stauts"])
    _, name, rest = ObjectIOApp().command_manager.find_command(["meta", "--replication", "1"])
    assert (name, rest) == ("meta", ["--replication", "1"])


@pytest.mark.parametrize("flag", ["4", "4+", "a+b"])
def test_shapes_that_are_none(flag, capsys):
    with contextlib.suppress(SystemExit):
        configure(Meta, "--ec", flag)
    assert "is not data+parity shards" in capsys.readouterr().err
