"""`objectio bench`: a quick test of a running server from the outside."""

from __future__ import annotations

import argparse
import contextlib
import os
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from cliff import columns

from objectio.cli.cells import Cell, Count, Rate, Size, Text, cells
from objectio.cli.client import Connection, add_client_arguments, find_endpoint, find_keys
from objectio.cli.command import Lister, Row
from objectio.cli.osd import parse_size

if TYPE_CHECKING:
    from objectio.cli.bench_load import Method, Phase, Seen, Target

_CONNECTIONS_MAX: Final = 256
_SETTLE_SECONDS: Final = 0.25
_SETTLE_SECONDS_MAX: Final = 10.0
_DELETED_AT_ONCE: Final = 1_000  # by DeleteObjects
_NOTE: Final = (
    "This is the server, the way to it and this client together, for some seconds, with little data "
    "that all fits into memory: it tells whether all is well, and what to expect of one client. It is "
    "no benchmark of disks, nor of what many clients get. The client is in Python, and takes its share "
    "of the processors if the server is on this machine."
)


class Milliseconds(columns.FormattableColumn[float | None]):
    def human_readable(self) -> str:
        return "-" if self._value is None else f"{self._value:,.1f}"


_SHOWN: Final[dict[str, Cell]] = {
    "request": Text,
    "size_bytes": Size,
    "connections": Count,
    "requests": Count,
    "errors": Count,
    "requests_per_second": Count,
    "bytes_per_second": Rate,
    "p50_ms": Milliseconds,
    "p99_ms": Milliseconds,
    "max_ms": Milliseconds,
}


class Bench(Lister):
    """Put and get objects for some seconds, and show how fast that was: a quick test of a server.

    Objects of two sizes are put, and read and compared with what was put, over several connections at
    once. They are in a bucket of their own, which is gone afterwards, or below a prefix of their own in
    the bucket of --bucket. Exit code 1 says that a request failed.

    It is no benchmark of the disks: the client takes part in every number.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--connections", type=int, default=8, metavar="N", help="at once (default: 8)"
        )
        parser.add_argument(
            "--seconds",
            type=float,
            default=5.0,
            metavar="S",
            help="of each of the four (default: 5)",
        )
        parser.add_argument(
            "--small", type=parse_size, default=4 << 10, metavar="SIZE", help="of objects (4KiB)"
        )
        parser.add_argument(
            "--large", type=parse_size, default=64 << 20, metavar="SIZE", help="of objects (64MiB)"
        )
        parser.add_argument("--bucket", metavar="BUCKET", help="one that is there")
        add_client_arguments(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        self._failures: list[str] = []
        code: int = super().run(parsed_args)
        if code == 0 and parsed_args.formatter == "table":
            self.app.stdout.write(f"\n{textwrap.fill(_NOTE, 96)}\n")
        if self._failures:
            from objectio.errors import ObjectIOError

            count = len(self._failures)
            more = f" (and {count - 1} more)" if count > 1 else ""
            raise ObjectIOError(f"not all went well: {self._failures[0]}{more}")
        return code

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        _check(parsed_args)
        with _own_place(parsed_args) as target:
            rows = [
                cells(row, _SHOWN)[1]
                for size in (parsed_args.small, parsed_args.large)
                for row in self._of_size(parsed_args, target, size)
            ]
        return tuple(_SHOWN), rows

    def _of_size(
        self, parsed_args: argparse.Namespace, target: Target, size: int
    ) -> Iterator[dict[str, Any]]:
        from hashlib import sha256

        from objectio.cli.bench_load import Phase, run_phase

        payload = os.urandom(size)
        digest = sha256(payload).hexdigest().encode()
        connections = parsed_args.connections
        processes = min(connections, len(os.sched_getaffinity(0)))
        there: dict[int, int] = {}
        methods: tuple[Method, ...] = ("PUT", "GET")
        for method in methods:
            phase = Phase(
                method, payload, digest, connections, processes, parsed_args.seconds, there
            )
            seen = run_phase(target, phase)
            there = seen.puts
            self._failures += seen.errors
            yield _row(phase, seen)
            if not all(there.values()) and method == "PUT":
                return  # what could not be put cannot be read


def _row(phase: Phase, seen: Seen) -> dict[str, Any]:
    took = sorted(seen.took)
    per_second = len(took) / seen.seconds if seen.seconds else 0.0

    def at(share: float) -> float | None:
        return took[min(int(len(took) * share), len(took) - 1)] * 1_000 if took else None

    return {
        "request": phase.method,
        "size_bytes": len(phase.payload),
        "connections": phase.connections,
        "requests": len(took),
        "errors": len(seen.errors),
        "requests_per_second": round(per_second, 1),
        "bytes_per_second": per_second * len(phase.payload),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


def _check(parsed_args: argparse.Namespace) -> None:
    from objectio.errors import ConfigError

    if not 1 <= parsed_args.connections <= _CONNECTIONS_MAX:
        raise ConfigError(f"--connections N: 1 to {_CONNECTIONS_MAX}")
    if not 0 < parsed_args.seconds <= 3_600:
        raise ConfigError("--seconds S: more than 0, at most 3600")
    if parsed_args.small == parsed_args.large:
        raise ConfigError("--small and --large are two sizes")


@contextlib.contextmanager
def _own_place(parsed_args: argparse.Namespace) -> Iterator[Target]:
    """A bucket, or a part of one, that is emptied again whatever happens."""
    import secrets

    from objectio.cli.bench_load import Target
    from objectio.cli.s3 import S3, Where
    from objectio.errors import ObjectIOError

    endpoint, keys = find_endpoint(parsed_args), find_keys(parsed_args.data, os.environ)
    name = f"objectio-bench-{secrets.token_hex(6)}"
    bucket = Where(parsed_args.bucket or name).check().bucket
    target = Target(endpoint, keys, bucket, f"{name}/" if parsed_args.bucket else "")
    s3 = S3(Connection(endpoint, keys))
    if parsed_args.bucket is None:
        s3.order("PUT", Where(bucket), {})
    else:
        next(s3.listing(bucket, target.prefix, "", ""), None)
    try:
        yield target
    finally:
        try:
            _clean(s3, target, own=parsed_args.bucket is None)
        except ObjectIOError as error:
            raise type(error)(f"{error}; what was put is left in bucket {bucket}") from error


def _clean(s3: Any, target: Target, *, own: bool) -> None:
    """Requests of a process that was ended may come to their end on the server yet."""
    import time

    from objectio.cli.s3 import Where
    from objectio.errors import NotEmpty

    deadline = time.monotonic() + _SETTLE_SECONDS_MAX
    _empty(s3, target)
    if not own:
        time.sleep(_SETTLE_SECONDS)
        _empty(s3, target)
    while own:
        try:
            s3.order("DELETE", Where(target.bucket), {})
            return
        except NotEmpty:
            if time.monotonic() > deadline:
                raise
        time.sleep(_SETTLE_SECONDS)
        _empty(s3, target)


def _empty(s3: Any, target: Target) -> None:
    from itertools import islice

    from objectio.cli.s3 import Where

    found = s3.listing(target.bucket, target.prefix, "", "")
    while batch := list(islice(found, _DELETED_AT_ONCE)):
        listed = "".join(f"<Object><Key>{each.key}</Key></Object>" for each in batch)
        body = f"<Delete><Quiet>true</Quiet>{listed}</Delete>".encode()
        said = s3.order("POST", Where(target.bucket), {"delete": ""}, body, _digest_of(body))
        if said is not None and (error := said.find("Error")) is not None:
            from objectio.errors import ObjectIOError

            raise ObjectIOError(f"objects cannot be deleted: {error.findtext('Message')}")


def _digest_of(body: bytes) -> list[tuple[bytes, bytes]]:
    """DeleteObjects wants one."""
    from base64 import b64encode
    from hashlib import md5

    digest = md5(body, usedforsecurity=False).digest()
    return [(b"content-md5", b64encode(digest))]
