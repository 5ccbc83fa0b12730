"""A mixed load on a store, which knows at each moment what must be read back.

    load = Load([client_a, client_b], "bucket", seed=20)
    with load:                      # clients run in threads of their own
        ...                         # kill something
    load.verify()

Every client has keys of its own. What was acknowledged must be there, identical; a call that failed
may have had its effect or not. Which gateway a call goes to changes from call to call, so what one has
acknowledged is asked of another at once. A client that is refused waits for a moment, and goes on.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from botocore import exceptions  # type: ignore[import-untyped]

PAUSE_SECONDS: Final = 0.1
"""After an error, as clients do."""
KEYS: Final = 8
_LOST: Final = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.ResponseStreamingError,
    exceptions.IncompleteReadError,
)
_TIMEOUTS: Final = (exceptions.ReadTimeoutError, exceptions.ConnectTimeoutError)

T = TypeVar("T")


class Call(NamedTuple):
    """One request. `error` is "" where it was served; times are monotonic."""

    what: str
    client: int
    began: float
    ended: float
    error: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def kind(self) -> str:
        """`read` and `write` are about the contents of objects, and need disks."""
        if self.what == "get":
            return "read"
        return "write" if self.what in ("put", "put large", "part", "copy") else "metadata"


class Refused(Exception):
    """A call that was not served, in a way in which it may be while processes are gone."""


class Load:
    """`clients` are boto3's, with several connections each, and must not try again by themselves."""

    def __init__(
        self,
        clients: Sequence[Any],
        bucket: str,
        *,
        seed: int,
        workers: int = 6,
        large_size_bytes: int = 2 << 20,
        part_size_bytes: int = 5 << 20,
    ) -> None:
        self.clients = clients
        self.bucket = bucket
        self.calls: list[Call] = []
        self.large_size_bytes = large_size_bytes
        self.part_size_bytes = part_size_bytes
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.workers = [Worker(self, number, seed) for number in range(workers)]

    def __enter__(self) -> Load:
        self._stopped.clear()
        self._threads = [threading.Thread(target=worker.run) for worker in self.workers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"
        self.check()

    def check(self) -> None:
        """Raises what a worker has found to be wrong until now."""
        for worker in self.workers:
            if worker.failure is not None:
                raise AssertionError(f"client {worker.prefix}") from worker.failure

    def verify(self) -> None:
        """With every client: everything is what it must be."""
        for number in range(len(self.clients)):
            for worker in self.workers:
                worker.verify(number)

    def keys(self) -> list[str]:
        """Of all objects that there are, after `verify`."""
        return sorted(name for worker in self.workers for name, _ in worker.known())

    def since(self, moment: float) -> list[Call]:
        """Calls that ended later than that."""
        return [call for call in self.calls if call.ended > moment]

    def wait_served(self, seconds: float, seconds_max: float) -> float:
        """Wait until there was no error for so long, with every client served meanwhile. Returns the
        moment of the last error, or of the call if there is none."""
        began = time.monotonic()
        last = began
        while True:
            time.sleep(0.05)
            self.check()
            now = time.monotonic()
            late = self.since(last)
            last = max([last, *(call.ended for call in late if call.error)])
            served = {call.client for call in late if not call.error and call.ended > last}
            if now - last >= seconds and len(served) == len(self.clients):
                return last
            assert now - began < seconds_max, f"not all is served: {summary(late)}"

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def pause(self) -> None:
        self._stopped.wait(PAUSE_SECONDS)


def summary(calls: Sequence[Call]) -> dict[str, int]:
    """How many ended how."""
    return dict(Counter(call.error or "served" for call in calls))


def digest(data: bytes | None) -> bytes | None:
    return None if data is None else hashlib.sha256(data).digest()


class Worker:
    """A client's thread. `possible` holds, by key, the digests that may be read back; None stands
    for no object. More than one: nobody knows whether the last call on the key had its effect."""

    def __init__(self, load: Load, number: int, seed: int) -> None:
        self._load = load
        self._rng = random.Random(f"{seed}:{number}")
        size = max(load.large_size_bytes, load.part_size_bytes)
        self._base = self._rng.randbytes(size + (1 << 20))
        self._turn = number
        self.prefix = f"{number}/"
        self.names = [f"{self.prefix}{n}" for n in range(KEYS)]
        self.possible: dict[str, set[bytes | None]] = {name: {None} for name in self.names}
        self.failure: BaseException | None = None

    def run(self) -> None:
        actions = [self._put] * 8 + [self._put_large, self._upload]
        actions += [self._delete, self._copy, self._list, self._get, self._get] * 2
        try:
            while not self._load.stopped and self.failure is None:
                try:
                    self._rng.choice(actions)()
                except Refused:
                    self._load.pause()
        except BaseException as error:
            self.failure = error

    def call(self, what: str, send: Callable[[Any], T], client: int | None = None) -> T:
        """Through the next client. Raises `Refused` where that is no fault of the store's."""
        clients = self._load.clients
        if client is None:
            self._turn += 1
            client = self._turn % len(clients)
        began, error = time.monotonic(), ""
        try:
            return send(clients[client])
        except _TIMEOUTS:
            error = "timeout"
            raise
        except _LOST as lost:
            error = type(lost).__name__
            raise Refused from lost
        except exceptions.ClientError as refused:
            status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:  # an answer
                raise
            error = f"{status} {refused.response['Error']['Code']}"
            if status != 503:
                raise
            raise Refused from refused
        finally:
            self._load.calls.append(Call(what, client, began, time.monotonic(), error))

    # Changes.

    def _data(self, size: int) -> bytes:
        begin = self._rng.randrange(len(self._base) - size + 1)
        return (self._rng.randbytes(16) + self._base[begin : begin + size])[:size]

    def _change(
        self, what: str, name: str, outcome: bytes | None, send: Callable[[Any], Any]
    ) -> None:
        """`send` makes `name` have the digest `outcome`: until it returns, perhaps."""
        self.possible[name] = self.possible[name] | {outcome}
        self.call(what, send)
        self.possible[name] = {outcome}

    def _where(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._load.bucket, "Key": name}

    def _put_sized(self, what: str, size: int) -> None:
        name, data = self._rng.choice(self.names), self._data(size)
        self._change(
            what, name, digest(data), lambda s3: s3.put_object(Body=data, **self._where(name))
        )

    def _put(self) -> None:
        self._put_sized("put", self._rng.randrange(100_000))

    def _put_large(self) -> None:
        self._put_sized("put large", self._rng.randrange(100_000, self._load.large_size_bytes))

    def _delete(self) -> None:
        name = self._rng.choice(self.names)
        self._change("delete", name, None, lambda s3: s3.delete_object(**self._where(name)))

    def _copy(self) -> None:
        if not (known := self.known()):
            return
        source, found = self._rng.choice(known)
        name = self._rng.choice([name for name in self.names if name != source])
        self._change(
            "copy",
            name,
            found,
            lambda s3: s3.copy_object(CopySource=self._where(source), **self._where(name)),
        )

    def _upload(self) -> None:
        """Each call of it through another client."""
        name = self._rng.choice(self.names)
        where = self._where(name)
        pieces = [
            self._data(self._load.part_size_bytes),
            self._data(self._rng.randrange(1, 50_000)),
        ]
        made = self.call("create upload", lambda s3: s3.create_multipart_upload(**where))
        where["UploadId"] = made["UploadId"]
        parts = []
        for number, piece in enumerate(pieces, 1):
            sent = self.call(
                "part",
                lambda s3, number=number, piece=piece: s3.upload_part(  # type: ignore[misc]
                    PartNumber=number, Body=piece, **where
                ),
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self._change(
            "complete upload",
            name,
            digest(b"".join(pieces)),
            lambda s3: s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where),
        )

    # Questions.

    def known(self) -> list[tuple[str, bytes]]:
        """(name, digest) of the objects that are certain."""
        rows = [(name, next(iter(each))) for name, each in self.possible.items() if len(each) == 1]
        return [(name, each) for name, each in rows if each is not None]

    def _read(self, name: str, client: int | None = None) -> bytes | None:
        def send(s3: Any) -> bytes | None:
            try:
                return bytes(s3.get_object(**self._where(name))["Body"].read())
            except s3.exceptions.NoSuchKey:
                return None

        return self.call("get", send, client)

    def _get(self) -> None:
        if not (known := self.known()):
            return
        name, _ = self._rng.choice(known)
        assert digest(self._read(name)) in self.possible[name], f"{name}: not what was acknowledged"

    def _list(self, client: int | None = None) -> None:
        answer = self.call(
            "list",
            lambda s3: s3.list_objects_v2(Bucket=self._load.bucket, Prefix=self.prefix),
            client,
        )
        listed = {entry["Key"] for entry in answer.get("Contents", ())}
        for name, each in self.possible.items():
            here = f"{name}, asked of client {client}"
            assert name in listed or None in each, f"not listed: {here}"
            assert name not in listed or each != {None}, f"listed: {here}"

    def verify(self, client: int) -> None:
        """Everything reads back, and is known again."""
        for name in self.names:
            found = digest(self._read(name, client))
            assert found in self.possible[name], f"{name}: not what was acknowledged"
            self.possible[name] = {found}
        self._list(client)


class HalfSent:
    """A PUT of a slow client: one half of the body is sent, the other by `finish`."""

    def __init__(self, s3: Any, bucket: str, key: str, body: bytes) -> None:
        where = {"Bucket": bucket, "Key": key}
        url = urllib.parse.urlsplit(s3.generate_presigned_url("put_object", where))
        self._rest = body[len(body) // 2 :]
        self._connection = http.client.HTTPConnection(url.netloc, timeout=30)
        self._connection.putrequest("PUT", f"{url.path}?{url.query}")
        self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders(body[: len(body) // 2])

    def finish(self) -> int:
        """The status; 0 if the connection was closed."""
        try:
            self._connection.send(self._rest)
            return self._connection.getresponse().status
        except OSError:
            return 0
        finally:
            self._connection.close()
