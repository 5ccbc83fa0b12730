"""An object in parts, several of which are sent at once, as clients send what is large."""

from __future__ import annotations

import re
import time
from typing import Final

from benchmarks.bench import Bench, Result, Samples, rate
from benchmarks.large import EXPANSION
from benchmarks.load import Connection, Failed, transfer
from benchmarks.small import make_bucket
from benchmarks.yardsticks import device_writes_per_second
from objectio.limits import MIB

BUCKET: Final = "bench-parts"
PART_BYTES: Final = 16 * MIB
AT_ONCE: Final = 8
SHARE_MIN: Final = 0.40
_PART: Final = re.compile(r"<PartNumber>(\d+)</PartNumber>.*?<ETag>(.*?)</ETag>", re.DOTALL)


class PutParts:
    """From the first byte of a part to the answer that the object is there."""

    name = "parts1g"
    title = f"1 GiB in parts of 16 MiB, {AT_ONCE} at once"
    aim = f"≥ {SHARE_MIN:.2f} × min(empty handler, device/1.5)"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._samples = Samples()

    def prepare(self) -> None:
        make_bucket(self._bench, BUCKET)

    def round(self) -> None:
        bench, samples = self._bench, self._samples
        device = device_writes_per_second(bench.work_dir, 4 * MIB, min(2.0, bench.settings.seconds))
        samples.add("device", 4 * MIB * device)
        paths = [f"/parts/{number}" for number in range(bench.settings.multipart_parts)]
        samples.add("null", self._send(bench.null.endpoint, paths))
        samples.add("ours", self._upload())

    def _send(self, endpoint: str, paths: list[str]) -> float:
        return transfer(endpoint, "PUT", paths, size=PART_BYTES, at_once=AT_ONCE)

    def _upload(self) -> float:
        """Bytes per second of a whole upload. The object is deleted at the end."""
        server, count = self._bench.server, self._bench.settings.multipart_parts
        key = f"/{BUCKET}/large"
        connection = Connection("127.0.0.1", server.port)
        begun = connection.exchange("POST", server.path("POST", key, "uploads")).decode()
        upload = begun.partition("<UploadId>")[2].partition("<")[0]
        numbers = range(1, count + 1)
        paths = [server.path("PUT", key, f"partNumber={n}&uploadId={upload}") for n in numbers]
        seconds = count * PART_BYTES / self._send(server.endpoint, paths)
        listed = connection.exchange("GET", server.path("GET", key, f"uploadId={upload}")).decode()
        parts = _PART.findall(listed)
        if len(parts) != count:
            raise Failed(f"{len(parts)} of {count} parts are there: {listed[:300]}")
        document = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in parts
        )
        body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
        started = time.perf_counter()
        done = connection.exchange("POST", server.path("POST", key, f"uploadId={upload}"), body)
        seconds += time.perf_counter() - started
        if f"-{count}".encode() not in done:
            raise Failed(f"the upload was not completed: {done[:300]!r}")
        connection.exchange("DELETE", server.path("DELETE", key))
        connection.close()
        return count * PART_BYTES / seconds

    def result(self) -> Result:
        median = self._samples.median
        floors = {"empty handler": median("null"), "device/1.5": median("device") / EXPANSION}
        floor = min(floors, key=lambda name: floors[name])
        ours = median("ours")
        return Result(
            name=self.name,
            title=self.title,
            value=rate(ours),
            yardstick=f"{rate(floors[floor])} ({floor})",
            ratio=f"{ours / floors[floor]:.2f}",
            aim=self.aim,
            passed=ours >= SHARE_MIN * floors[floor],
            samples=self._samples.by_name,
        )
