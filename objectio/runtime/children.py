"""The processes that `objectio serve --workers` runs: which, with which configuration, and where they
meet.

They reach each other over Unix sockets in DIR/run, which only the owner may enter. Nothing there
outlives the supervisor: it is made anew at each start. The configuration of each process is written
beside its sockets, for whoever wants to look.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from objectio.config import Config, dump_toml
from objectio.errors import ConfigError
from objectio.gateway.neighbours import SUFFIX
from objectio.rpc.address import UNIX_PATH_BYTES_MAX

RUN_DIR: Final = "run"
_NAME_BYTES_MAX: Final = 24
"""Of a file in there: gateway-9999.http"""


class Member(NamedTuple):
    """One process, by the name that its log lines and metrics have."""

    name: str
    role: str
    config: Config


def make_members(
    config: Config, workers: int, osd_processes: int | None, run_dir: Path
) -> list[Member]:
    """N gateways, one process with the metadata, and M with a share of the disks each."""
    if config.meta.listen or config.osd.listen or config.cluster.meta_endpoint:
        raise ConfigError(
            "--workers runs processes that meet on this machine only: leave meta.listen, osd.listen "
            "and cluster.meta_endpoint empty, or run `objectio meta`, `osd` and `gateway` instead"
        )
    disks = config.osd.disk
    shares = min(osd_processes or workers, len(disks))
    if not shares:
        raise ConfigError(f"{config.origin} has no disks: add some as [[osd.disk]]")
    meta = f"unix:{run_dir}/meta.sock"
    cluster = replace(
        config.cluster,
        meta_endpoint=meta,
        secret_file=str(config.beside_data(config.cluster.secret_file)),
        tls_cert_file="",
        tls_key_file="",
        tls_ca_file="",
    )
    base = replace(config, cluster=cluster)
    members = [
        _member(
            replace(
                base,
                cluster=replace(cluster, meta_endpoint=""),
                meta=replace(config.meta, listen=meta),
            ),
            run_dir,
            "meta",
            "meta",
        )
    ]
    for number in range(shares):
        osd = replace(
            config.osd,
            listen=f"unix:{run_dir}/osd-{number}.sock",
            disk=disks[number::shares],
            # The same place in the topology as when one process has them all.
            host=config.osd.host or "localhost",
        )
        members.append(_member(replace(base, osd=osd), run_dir, f"osd-{number}", "osd"))
    without_disks = replace(
        base, osd=replace(config.osd, disk=()), kv=replace(config.kv, near=not config.kv.filters)
    )
    members += [
        _member(without_disks, run_dir, f"gateway-{number}", "gateway") for number in range(workers)
    ]
    return members


def _member(config: Config, run_dir: Path, name: str, role: str) -> Member:
    node = replace(config.node, name=name, roles=(role,), data_dir=str(config.data_dir))
    metrics = replace(config.metrics, listen=f"unix:{run_dir / name}{SUFFIX}")
    return Member(name, role, replace(config, node=node, metrics=metrics))


def prepare_run_dir(data_dir: Path) -> Path:
    """Where the sockets are: an empty directory that only the owner may enter. DIR/run, or, where
    the names of sockets would become too long, a directory for temporary files."""
    path = data_dir / RUN_DIR
    if len(os.fsencode(path)) + 1 + _NAME_BYTES_MAX > UNIX_PATH_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"objectio-{os.getuid()}-{digest}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{path} is not a directory of ours: move it away")
    path.chmod(0o700)
    for left in path.iterdir():
        left.unlink()
    return path


def write_config(member: Member, run_dir: Path) -> Path:
    """Only the owner can read it: settings of drivers may be secrets."""
    path = run_dir / f"{member.name}.toml"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(dump_toml(member.config))
    return path
