"""How long a device takes to open: `python -m benchmarks.recovery [--gb 1 10] [--tail-mb 256] [--dir DIR]`.

A device is filled, and opened after a clean end, after a crash with so much written behind the last
checkpoint, and without its index, which is then rebuilt from the whole log. Before each opening the
kernel is told to forget what it has of the device. An image file is read past the page cache, a
directory through it. DIR must be on the device that is to be measured.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.limits import GIB, MIB
from objectio.model.stripe import ShardKey, new_blob_id
from objectio.osd.config import LogStoreConfig
from objectio.osd.device import Device, log_path
from objectio.osd.log import Log, PutItem
from objectio.osd.store import LogStoreFactory
from objectio.osd.upkeep import checkpoint
from objectio.testing.context import make_context

CLUSTER: Final = str(uuid.UUID(int=1))
BATCH: Final = 16


class Counted:
    """What is read of devices while the context is entered."""

    def __enter__(self) -> Counted:
        self.bytes = 0
        pread: Callable[[Device, int, int], bytes] = Device.pread
        self._pread: Any = pread

        def counting(device: Device, length: int, offset: int) -> bytes:
            data = pread(device, length, offset)
            self.bytes += len(data)
            return data

        Device.pread = counting  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Device.pread = self._pread  # type: ignore[method-assign]


def main() -> int:
    arguments = _arguments()
    print(
        f"{'device':<10} {'stored':>7}  {'opened':<28} {'seconds':>8} {'read MiB':>9} {'MiB/s':>7}"
    )
    for gigabytes in arguments.gb:
        for kind in ("directory", "image"):
            with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="recovery-") as work_dir:
                for name, seconds, read in _measure(
                    Path(work_dir), kind, int(gigabytes * GIB), arguments
                ):
                    print(
                        f"{kind:<10} {gigabytes:>4g} GB  {name:<28} {seconds:>8.3f} "
                        f"{read / MIB:>9.1f} {read / MIB / seconds:>7.0f}",
                        flush=True,
                    )
    return 0


def _measure(work_dir: Path, kind: str, stored: int, arguments: Any) -> Any:
    path = work_dir / "device"
    factory = LogStoreFactory(LogStoreConfig(), make_context(work_dir))
    size = None if kind == "directory" else stored * 5 // 4 + arguments.tail_mb * MIB + GIB
    factory.prepare(str(path), cluster_id=CLUSTER, size_bytes=size)
    log = factory._open(path, CLUSTER)
    _fill(log, stored, arguments.shard_bytes)
    checkpoint(log, clean=True)
    _close(log)
    yield "after a clean end", *_open(factory, path)
    log = factory._open(path, CLUSTER)
    _fill(log, arguments.tail_mb * MIB, arguments.shard_bytes)
    _close(log)
    yield f"with a tail of {arguments.tail_mb} MiB", *_open(factory, path)
    shutil.rmtree(work_dir / "test")
    factory = LogStoreFactory(LogStoreConfig(), make_context(work_dir))
    yield "without its index", *_open(factory, path)


def _fill(log: Log, size: int, shard_bytes: int) -> None:
    payload = random.Random(1).randbytes(shard_bytes)
    at = ShardCoordinates("replicate", 1, 0, shard_bytes)
    while size > 0:
        items = [
            PutItem(_ignore, ShardWrite(ShardKey(new_blob_id(), 0, 0), [payload], at, False))
            for _ in range(BATCH)
        ]
        for _, error in log.run_batch(items):
            if error is not None:
                raise error
        size -= BATCH * shard_bytes
    log.sync()


def _ignore(error: BaseException | None) -> None:
    return None


def _open(factory: LogStoreFactory, path: Path) -> Sequence[float]:
    """Seconds, and bytes read."""
    fd = os.open(log_path(path), os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    with Counted() as counted:
        began = perf_counter()
        log = factory._open(path, CLUSTER)
        seconds = perf_counter() - began
    checkpoint(log, clean=True)
    _close(log)
    return seconds, counted.bytes


def _close(log: Log) -> None:
    log.index.close()
    log.device.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--gb", type=float, nargs="+", default=[1, 10], help="stored before")
    parser.add_argument("--tail-mb", type=int, default=256, help="written behind the checkpoint")
    parser.add_argument("--shard-bytes", type=int, default=MIB, help="size of each shard")
    parser.add_argument("--dir", type=Path, default=Path(), help="where the device is made")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
