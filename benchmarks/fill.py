"""Fills buckets with empty objects through the store itself, while no server runs.

    python -m benchmarks.fill DATA_DIR BUCKET=COUNT …

It is the composition root that the server has, so what it writes is what a million PUTs would have
written, at several times their speed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.load import Failed
from benchmarks.server import ACCESS_KEY, ObjectIOServer
from objectio.abc.objects import ObjectAttributes, ObjectService
from objectio.testing.objects import BytesPayload

AT_ONCE: Final = 512
_SECONDS_MAX: Final = 3600


def key_name(number: int) -> str:
    return f"folder-{number // 5000:05d}/object-{number:010d}"


def fill_keys(server: ObjectIOServer, buckets: Mapping[str, int]) -> None:
    """Stop the server, make the buckets, start it again."""
    server.stop()
    try:
        jobs = [f"{bucket}={count}" for bucket, count in buckets.items()]
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.fill", str(server.data_dir), *jobs],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_MAX,
        )
        if ended.returncode:
            raise Failed(ended.stderr.strip()[-2000:])
    finally:
        server.start()


async def put_keys(objects: ObjectService, bucket: str, count: int) -> None:
    """`count` empty objects, many at once so that the metadata commits in groups."""
    await objects.create_bucket(bucket, owner=ACCESS_KEY)
    attributes = ObjectAttributes()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            key = key_name(number).encode()
            await objects.put_object(bucket, key, BytesPayload(b""), attributes, owner=ACCESS_KEY)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def _fill(data_dir: Path, buckets: Mapping[str, int]) -> None:
    from objectio.cli.config import plugins_for
    from objectio.config import load_config
    from objectio.runtime.node import Node

    overrides = ["gateway.listen=127.0.0.1:0"]
    config = load_config(data_dir / "objectio.toml", env=os.environ, overrides=overrides)
    node = Node(config, plugins_for(config))
    await node.start()
    try:
        for bucket, count in buckets.items():
            await put_keys(node.part("objects"), bucket, count)
    finally:
        await node.stop()


def main() -> None:
    import uvloop

    pairs = (job.partition("=") for job in sys.argv[2:])
    uvloop.run(_fill(Path(sys.argv[1]), {bucket: int(count) for bucket, _, count in pairs}))


if __name__ == "__main__":
    main()
