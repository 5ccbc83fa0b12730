"""A gateway's session with the process that has the metadata: the right to commit.

    session = Session(channel, kv, name, pools, in_use)
    await session.open()

Every commit of this process carries the session as a check. The session is lost when nothing was heard
of this process for a while, whether or not it knows of that; then nothing of it is committed any more,
and its shards without an owner are swept away. So a blob may be committed only with the session that
there was all the time while it was being written: whatever is active when a session begins can never
be committed, and is refused here, since the check would hold again.

The session also carries what serving tells upkeep, all of one turn of the loop in one call. A blob that
was given up is active until that has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from typing_extensions import Buffer

from objectio.abc.kv import Check, Present
from objectio.errors import NotFound, ObjectIOError, Unavailable
from objectio.meta import keys
from objectio.meta.records import BlobRef
from objectio.rpc.client import TIMEOUT_SECONDS, Channel, Reply
from objectio.rpc.kv import RemoteKV, Write
from objectio.rpc.messages import pack
from objectio.rpc.sessions_messages import (
    NOTES_MAX,
    Handle,
    Method,
    Notes,
    Open,
    Poll,
    pack_ids,
    unpack_opened,
    unpack_polled,
)
from objectio.store.presence import BlobsInUse

CLOSE_SECONDS: Final = 5.0
DAMAGED_MAX: Final = NOTES_MAX // 2
"""Blobs whose damage is not told yet; of more the next scrub will know."""
_RETRY_SECONDS: Final = 0.2
_FAILED_SECONDS: Final = 1.0

_log: Final = logging.getLogger("objectio.sessions")


class Refreshed(Protocol):
    """What is read anew for a survey."""

    async def refresh(self) -> None: ...


class Session:
    """Implements `objectio.store.presence.Upkeep`. The channel and the store are the caller's; the
    store's fence is the session's from `start` on, also after `close`."""

    def __init__(
        self, channel: Channel, kv: RemoteKV, name: str, pools: Refreshed, in_use: BlobsInUse
    ) -> None:
        self._channel = channel
        self._kv = kv
        self._name = name
        self._pools = pools
        self._in_use = in_use
        self._id: bytes | None = None
        self._present: Present | None = None
        """What commits carry. There is none before pools were read within the session."""
        self._lost: set[bytes] = set()
        """Blobs that were active when the session began."""
        self._lease_seconds = TIMEOUT_SECONDS
        self._wanted = self._reported = (b"", 0)
        """Surveys, by term and number."""
        self._pools_now = self._pools_read = (b"", 0)
        """Likewise for the state of pools, groups and moves."""
        self._begun = asyncio.Event()
        self._call: asyncio.Task[Reply] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._why = ""
        self._complaint = ""
        self._noted = asyncio.Event()
        self._quiet = asyncio.Event()
        """Nothing is to be told."""
        self._quiet.set()
        self._abandoned: dict[bytes, BlobRef] = {}
        self._damaged: dict[BlobRef, tuple[int, bool]] = {}
        self._garbage = self._repairs = False

    # The right to commit.

    @property
    def is_open(self) -> bool:
        """Whether commits are possible, as far as is known."""
        return self._present is not None

    @property
    def fence(self) -> Present:
        """What a commit must carry. Raises `Unavailable` while there is no session."""
        if self._present is None:
            raise Unavailable(
                "this gateway has no session with the metadata"
                + (f": {self._why}" if self._why else ""),
                reason="session",
            )
        return self._present

    def _fence_for(self, writes: Sequence[Write]) -> Present:
        if self._lost:
            for key, _ in writes:
                if key.startswith(keys.BLOBS) and key[len(keys.BLOBS) :] in self._lost:
                    raise Unavailable("the session changed while this was written", reason="fenced")
        return self.fence

    def _on_fenced(self, check: Check) -> None:
        if check == self._present:
            self._lose("it was taken for dead")

    # Life.

    def start(self) -> None:
        """Open a session as soon as that is possible, and another whenever it is lost."""
        if self._tasks or self._closed:
            return
        self._kv.fence = self._fence_for
        self._kv.on_fenced = self._on_fenced
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._run_notes())]

    async def open(self) -> None:
        """`start`, and wait until there is a session, however long that takes."""
        self.start()
        await self._begun.wait()

    async def close(self, grace_seconds: float = CLOSE_SECONDS) -> None:
        """After the last commit: tell what is to be told, and give the session back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                if self._present is not None:
                    await self._quiet.wait()
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        session, self._id, self._present = self._id, None, None
        self._kv.distrust()
        self._why = "it was closed"
        self._begun.clear()
        if session is not None:
            try:
                await self._channel.call(
                    Method.CLOSE, pack(Handle(session)), timeout_seconds=grace_seconds
                )
            except ObjectIOError as error:
                _log.info("the session ends by itself: %s", error)

    def _lose(self, why: str) -> None:
        if self._id is None:
            return
        _log.warning("the session was lost: %s", why)
        self._id = self._present = None
        self._kv.distrust()  # what is read within no session is nobody's to keep
        self._why = why
        self._begun.clear()
        if self._call is not None:
            self._call.cancel()

    async def _run(self) -> None:
        while True:
            pause = _RETRY_SECONDS
            try:
                if self._id is None:
                    await self._begin()
                await self._report()
                continue
            except NotFound as error:
                if error.fields.get("kind") == "session":
                    self._lose(error.message)
                    continue
                pause = self._failed(error)
            except Unavailable as error:
                if self._present is None and error.message != self._why:
                    self._why = error.message
                    _log.info("no session yet: %s", error)
            except Exception as error:
                pause = self._failed(error)
            await self._connected()
            await asyncio.sleep(pause)

    def _failed(self, error: Exception) -> float:
        """It goes on; but who cannot answer must not keep others waiting, and loses the session."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.warning("the session: %s", error, exc_info=not isinstance(error, ObjectIOError))
        return _FAILED_SECONDS

    async def _connected(self) -> None:
        while self._channel.connection is None:
            try:
                await self._channel.connect()
            except ObjectIOError:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _begin(self) -> None:
        reply = await self._channel.call(
            Method.OPEN, pack(Open(self._name)), background=False, timeout_seconds=TIMEOUT_SECONDS
        )
        opened = unpack_opened(reply.head)
        self._id = opened.session
        self._lease_seconds = opened.lease_ms / 1000
        self._wanted = (opened.term, opened.number)
        self._pools_now = (opened.term, opened.pools)
        self._reported = self._pools_read = (b"", 0)

    async def _report(self) -> None:
        """Answer the survey that is wanted, if it is not answered yet, and wait for the next one."""
        wanted, session = self._wanted, self._id
        payload: tuple[Buffer, ...] = ()
        count = 0
        if wanted != self._reported:
            if self._present is None and session is not None:
                await self._kv.trust(keys.session(session))
                if session != self._id:  # it was lost meanwhile
                    self._kv.distrust()
                    return
            if (pools := self._pools_now) != self._pools_read:
                await self._pools.refresh()
                self._pools_read = pools
            if session is None or session != self._id:
                return
            if self._present is None:
                self._adopt(session)
            active, pinned = self._in_use.active, self._in_use.pins
            count, payload = len(active), (pack_ids(active, pinned),)
            self._lost &= active
        assert session is not None
        reply = await self._poll(pack(Poll(session, *wanted, count)), payload)
        if session == self._id:
            polled = unpack_polled(reply.head)
            self._reported, self._wanted = wanted, (polled.term, polled.number)
            self._pools_now = (polled.term, polled.pools)

    def _adopt(self, session: bytes) -> None:
        """What was begun before this moment was not known to surveys, or had other pools."""
        self._lost = set(self._in_use.active)
        self._present = Present(keys.session(session))
        self._why = self._complaint = ""
        self._begun.set()
        _log.info("a session was opened")

    async def _poll(self, head: bytes, payload: Sequence[Buffer]) -> Reply:
        """In a task of its own, so that it can be cut short when the session is lost."""
        work = self._channel.call(
            Method.POLL,
            head,
            payload,
            background=False,
            timeout_seconds=max(2 * self._lease_seconds, 1.0),
        )
        self._call = call = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.wait([call])
        finally:
            self._call = None
            call.cancel()
            if call.done() and not call.cancelled():
                call.exception()  # nobody else may ask
        if call.cancelled():
            raise Unavailable("the session was lost", reason="session")
        return call.result()

    # Upkeep.

    def abandon(self, ref: BlobRef) -> None:
        self._abandoned[ref.blob] = ref
        self._note()

    def damaged(self, ref: BlobRef, mask: int, *, examine: bool = False) -> None:
        known = self._damaged.get(ref, (0, False))
        if ref in self._damaged or len(self._damaged) < DAMAGED_MAX:
            self._damaged[ref] = known[0] | mask, known[1] or examine
            self._note()

    def garbage(self) -> None:
        self._garbage = True
        self._note()

    def repairs(self) -> None:
        self._repairs = True
        self._note()

    def _note(self) -> None:
        self._noted.set()
        self._quiet.clear()

    async def _run_notes(self) -> None:
        while True:
            await self._noted.wait()
            await self._begun.wait()
            try:
                await self._tell()
                continue
            except NotFound as error:
                self._lose(error.message)
                pause = _RETRY_SECONDS
            except Unavailable:
                pause = _RETRY_SECONDS
            except Exception as error:
                pause = self._failed(error)
            await asyncio.sleep(pause)

    async def _tell(self) -> None:
        """What was noted by now, in one call. A blob that was given up may have been committed all
        the same, by a commit whose answer was lost; once a later commit is through, it has its row
        or never will."""
        abandoned = list(itertools.islice(self._abandoned.values(), NOTES_MAX - DAMAGED_MAX))
        damaged, self._damaged = self._damaged, {}
        garbage, repairs = self._garbage, self._repairs
        self._noted.clear()
        self._garbage = self._repairs = False
        try:
            if abandoned:
                await self._kv.barrier()
            if self._id is None:
                raise Unavailable("there is no session", reason="session")
            notes = Notes(
                list(abandoned),
                [(ref, mask, examine) for ref, (mask, examine) in damaged.items()],
                garbage,
                repairs,
            )
            await self._channel.call(
                Method.TELL, pack(Handle(self._id)), (pack(notes),), background=False
            )
        except BaseException:
            for ref, (mask, examine) in damaged.items():
                self.damaged(ref, mask, examine=examine)
            self._garbage |= garbage
            self._repairs |= repairs
            self._noted.set()
            raise
        for ref in abandoned:
            self._abandoned.pop(ref.blob, None)
            self._in_use.active.discard(ref.blob)
        if self._abandoned:
            self._noted.set()
        if not self._noted.is_set():
            self._quiet.set()
