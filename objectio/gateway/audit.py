"""The audit log: who changed what, and who was denied what.

Three files for each process, in `audit/` of the data directory. `NODE.admin.jsonl` has what changes the
store or its rules and is not the data of objects, and what lifts the protection of those: a legal hold that
ends, a retention that is bypassed. Such a request writes two lines: `begun` is on the disk
before anything of it is done, and `done`, with its status, before the client has its answer. So there is
no change without a line, whatever crashes; who finds `begun` alone knows that the outcome is not known.
What cannot be written down is not done: it is refused with 503 until the file takes lines again. Reading,
and reading and writing of objects, go on.

Temporary credentials leave nothing behind in the store, and some of them anybody may ask for: of these
only `done` is written, and only if they were given; if it cannot be, they are not given. Whoever has a key
gets as many as they like, so these lines are in a file of their own, `NODE.credentials.jsonl`: they push no
change out.

`NODE.denied.jsonl` has every request that was answered 401 or 403, or whose credentials were refused in
another way. Anybody can make such lines, so they are in a file of their own, so many in a second and no
more, and written within a second.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal

from objectio.abc.api import ANONYMOUS, Access, Identity
from objectio.abc.metrics import Counter, Metrics, NullMetrics
from objectio.abc.orders import Ended
from objectio.errors import AccessError, ObjectIOError, Unavailable
from objectio.gateway.auditfile import AuditFile, encode_line, timestamp
from objectio.gateway.exchange import Exchange
from objectio.gateway.requestlog import Line
from objectio.iam.credentials import root_identity

logger: Final = logging.getLogger("objectio.gateway.audit")

Kind = Literal["", "change", "credentials"]
Facts = Mapping[str, object]

TEXT_CHARS_MAX: Final = 2048
USER_AGENT_CHARS_MAX: Final = 256
DENIED_SECONDS: Final = 1.0
"""How long lines of denied requests are collected."""
WRITE_SECONDS_MAX: Final = 10.0
"""A disk that takes longer for a line is one that cannot be written."""
TRY_SECONDS: Final = 2.0
"""Between two looks whether a file that could not be written takes lines again."""
DENIED: Final = frozenset((401, 403))

_READS: Final = ("Get", "List", "Head", "Describe", "Simulate", "Select", "Show")
_CREDENTIALS: Final = frozenset(
    f"sts:{action}"
    for action in (
        *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot"),
        *("GetFederationToken", "GetSessionToken"),
    )
)
BYPASS: Final = "s3:BypassGovernanceRetention"
# The data of objects, and their tags. Of locks, what may only make them last longer.
_DATA: Final = frozenset(
    f"s3:{action}"
    for action in (
        *("PutObject", "DeleteObject", "DeleteObjectVersion", "AbortMultipartUpload"),
        *("PutObjectTagging", "PutObjectVersionTagging"),
        *("DeleteObjectTagging", "DeleteObjectVersionTagging"),
        *("PutObjectRetention", "RestoreObject", "PreflightRequest"),
    )
)


@lru_cache(1024)
def kind_of(action: str) -> Kind:
    """Whether it is an administrative action. One that nobody has thought of is."""
    if action in _CREDENTIALS:
        return "credentials"
    if action in _DATA or action.partition(":")[2].startswith(_READS):
        return ""
    return "change"


def recorded_of(access: Access) -> tuple[str, str]:
    """The action and resource of a request that are written down; "" for none."""
    if kind_of(access.action):
        return access.action, access.resource
    for wanted in access.also:
        if wanted.action == BYPASS:
            return wanted.action, wanted.resource
    return "", ""


def describe(
    request_id: str,
    action: str,
    resource: str,
    who: Identity,
    peer: tuple[str, bool],
    headers: Mapping[bytes, bytes],
    access_key: str = "",
) -> dict[str, object]:
    """`access_key` is what was claimed, if nobody was known."""
    return {
        "request_id": request_id,
        "action": action[:TEXT_CHARS_MAX],
        "resource": resource[:TEXT_CHARS_MAX],
        "identity": who.arn[:TEXT_CHARS_MAX],
        "account": who.account,
        "access_key": (who.access_key or access_key)[:TEXT_CHARS_MAX],
        "source_ip": peer[0],
        "secure": peer[1],
        "user_agent": headers.get(b"user-agent", b"").decode("latin-1")[:USER_AGENT_CHARS_MAX],
    }


def code_of(error: Exception | None) -> str:
    if error is None:
        return ""
    if not isinstance(error, ObjectIOError):
        return "InternalError"
    return str(error.fields.get("reason") or type(error).__name__)


def claimed_key(error: Exception) -> str:
    """The access key that somebody claims who was refused. Of one that nobody has, only what can be
    a key's id is shown: it may be the secret, in the wrong place."""
    if not isinstance(error, AccessError):
        return ""
    key = error.fields.get("access_key")
    if not isinstance(key, str):
        return ""
    if "string_to_sign" in error.fields:  # it was found, and the signature was wrong
        return key
    return key if _is_id(key) else ""


def _is_id(key: str) -> bool:
    return key.isascii() and key.isalnum() and key.isupper() and 16 <= len(key) <= 32


def _order(action: str, resource: str, access_key: str, source: str, who: Identity) -> Facts:
    """As `describe` has it of a request."""
    facts = describe(
        secrets.token_hex(8).upper(), action, resource, who, (source, False), {}, access_key
    )
    del facts["secure"]  # what is proven is bound to the connection, by TLS or not
    return facts


class Audit:
    """`node` names the files of this process."""

    def __init__(
        self,
        directory: Path,
        node: str,
        *,
        file_bytes_max: int,
        files_max: int,
        denied_per_second_max: float,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="audit")
        settings = {"bytes_max": file_bytes_max, "files_max": files_max}
        self._admin = _Writer(AuditFile(directory, f"{node}.admin", **settings), self._executor)
        self._given = _Writer(
            AuditFile(directory, f"{node}.credentials", **settings), self._executor
        )
        self._denied = _Writer(AuditFile(directory, f"{node}.denied", **settings), self._executor)
        self._writers = {"admin": self._admin, "credentials": self._given, "denied": self._denied}
        self._limit = _Limit(denied_per_second_max)
        self._clock = clock
        self._collected: list[bytes] = []
        self._left_out = 0
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._show(NullMetrics() if metrics is None else metrics)

    def _show(self, metrics: Metrics) -> None:
        for file, writer in self._writers.items():
            writer.lines = metrics.counter(
                "objectio_audit_lines_total", "Lines of the audit log that were written.", file=file
            )
        self._left_out_total = metrics.counter(
            "objectio_audit_left_out_total",
            "Denied requests without a line of their own: there were too many, or it was not written.",
        )
        metrics.gauge_function(
            "objectio_audit_failed",
            "1 while the audit log cannot be written, and every change is refused.",
            lambda: int(self._admin.failed or self._given.failed),
        )

    async def start(self) -> None:
        """A file that cannot be opened now is opened by who writes to it."""
        for writer in self._writers.values():
            await writer.start()

    async def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._flushing)
        self._flush()
        await asyncio.gather(*self._flushing)
        for writer in self._writers.values():
            await writer.stop()
        self._executor.shutdown(wait=True)

    # Changes.

    async def begin(self, kind: Kind, facts: Facts) -> None:
        """Before anything is done. Raises `Unavailable`: then nothing may be."""
        if kind == "change":
            await self._write(self._admin, "begun", facts)

    async def end(self, kind: Kind, facts: Facts, status: int, code: str) -> None:
        writer = self._given if kind == "credentials" else self._admin
        await self._write(writer, "done", {**facts, "status": status, "code": code})

    async def _write(self, writer: _Writer, event: str, facts: Facts) -> None:
        line = self._line(event, facts)
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await writer.append(line)
        except OSError:  # TimeoutError is one
            raise Unavailable(
                "The audit log cannot be written, so nothing is changed: make room for it, or see the "
                "server's log",
                reason="audit",
            ) from None

    def _line(self, event: str, facts: Facts) -> bytes:
        return encode_line({"time": timestamp(self._clock()), "event": event, **facts})

    # Orders on the control plane: `objectio.abc.orders.OrderLog`.

    async def begin_order(self, action: str, resource: str, access_key: str, source: str) -> Ended:
        facts = _order(action, resource, access_key, source, root_identity(access_key))
        await self._write(self._admin, "begun", facts)

        async def end(status: str, code: str) -> None:
            try:
                await self._write(self._admin, "done", {**facts, "status": status, "code": code})
            except Unavailable:  # as of requests: it is done
                logger.error(Line(facts, "is done, which the audit log could not take"))

        return end

    def deny_order(self, action: str, access_key: str, source: str, code: str) -> None:
        shown = access_key if _is_id(access_key) else ""
        said = {**_order(action, "", shown, source, ANONYMOUS), "status": 401, "code": code}
        self._collect(said)

    # Denials.

    def deny(self, facts: Facts, status: int, code: str, **more: object) -> None:
        self._collect({**facts, "status": status, "code": code, **more})

    def _collect(self, said: Facts) -> None:
        if self._limit.take():
            self._collected.append(self._line("denied", said))
        else:
            self._left_out += 1
            self._left_out_total.inc()
        self._expect()

    def _expect(self) -> None:
        if self._timer is None and not self._stopping:
            self._timer = asyncio.get_running_loop().call_later(DENIED_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._flushing:  # the disk is slow: as if there were too many
            self._give_up()
        elif self._collected or self._left_out:
            task = asyncio.get_running_loop().create_task(self._write_denied())
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _write_denied(self) -> None:
        lines, self._collected = self._collected, []
        left_out, self._left_out = self._left_out, 0
        more = [self._line("left_out", {"count": left_out})] if left_out else []
        try:
            await self._denied.append(b"".join([*lines, *more]), len(lines) + len(more))
        except OSError:
            self._collected = [*lines, *self._collected]
            self._left_out += left_out
            self._give_up()

    def _give_up(self) -> None:
        count = len(self._collected)
        self._collected = []
        self._left_out += count
        self._left_out_total.inc(count)
        self._expect()


class Recorded:
    """The response of a request that changes something, or may: from `begin` on its status is written
    down before anybody has it. Takes the place of the exchange's `send`."""

    def __init__(self, audit: Audit, exchange: Exchange) -> None:
        self._audit = audit
        self._exchange = exchange
        self._send = exchange.send
        self._kind: Kind = ""
        self._facts: Facts = {}
        exchange.send = self.send  # type: ignore[method-assign]

    async def begin(self, kind: Kind, facts: Facts) -> None:
        await self._audit.begin(kind, facts)
        self._kind, self._facts = kind, facts

    def send(self, message: Any) -> Awaitable[None]:
        if not self._kind or message["type"] != "http.response.start":
            return self._send(message)
        kind, self._kind = self._kind, ""
        if kind == "credentials" and message["status"] >= 400:
            return self._send(message)
        return self._start(message, kind)

    async def _start(self, message: Any, kind: Kind) -> None:
        status = message["status"]
        try:
            await self._audit.end(kind, self._facts, status, code_of(self._exchange.failure))
        except Unavailable:
            if kind == "credentials":
                raise
            # It is done, and `begun` says who did it: to tell the client otherwise would be wrong.
            facts = {**self._facts, "status": status}
            logger.error(Line(facts, "is done, which the audit log could not take"))
        await self._send(message)


class _Writer:
    """Collects lines while a write is under way, and writes them as one. After a failure it tries by
    itself, now and then, whether the file takes lines again."""

    lines: Counter

    def __init__(self, file: AuditFile, executor: ThreadPoolExecutor) -> None:
        self.failed = False
        self._file = file
        self._executor = executor
        self._waiting: list[tuple[bytes, int, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        try:
            await self._in_thread(self._file.open)
        except OSError as error:
            self._fail(error)

    async def stop(self) -> None:
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        if self._running is not None:
            await self._running
        await self._in_thread(self._file.close)

    async def append(self, lines: bytes, count: int = 1) -> None:
        """They are on the disk when it returns. Raises OSError."""
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        self._waiting.append((lines, count, written))
        if self._running is None:
            self._running = loop.create_task(self._run())
        await written

    async def _run(self) -> None:
        while batch := self._waiting:
            self._waiting = []
            failure: OSError | None = None
            lines = b"".join(each[0] for each in batch)
            try:
                await self._in_thread(partial(self._file.append, lines))
            except OSError as error:
                failure = error
                self._fail(error)
            else:
                self._succeed(sum(each[1] for each in batch))
            for _, _, written in batch:
                if written.done():
                    continue  # nobody waits for it any more
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)
        self._running = None

    async def _in_thread(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _fail(self, error: OSError) -> None:
        if not self.failed:
            logger.error("the audit log %s cannot be written: %s", self._file.path, error)
        self.failed = True
        if self._trying is None:
            self._trying = asyncio.get_running_loop().create_task(self._try())

    async def _try(self) -> None:
        while self.failed:
            await asyncio.sleep(TRY_SECONDS)
            facts = {"time": timestamp(time.time()), "event": "resumed"}
            with suppress(OSError):
                await self.append(encode_line(facts))
        self._trying = None

    def _succeed(self, count: int) -> None:
        self.lines.inc(count)
        if self.failed:
            self.failed = False
            logger.warning("the audit log %s is written again", self._file.path)


class _Limit:
    """So many in a second, and as many at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._left = self._most
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
