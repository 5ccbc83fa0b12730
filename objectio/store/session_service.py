"""Sessions of gateways, in the process with the metadata: who may commit, and who uses which blobs.

A gateway may commit as long as the row of its session is there, since every commit of it has that row
as a check. The gateway keeps a call waiting here, a poll, which is answered as soon as somebody wants
to know what is in use: a survey. Surveys have numbers. A gateway that is told a number reads pools and
groups anew, if they were changed, then looks at what it uses, then polls again with both.

A survey waits for every session. What is not heard of within its lease is *fenced*: the row is deleted,
durably, and only then nobody waits for it any more. From then on nothing of that gateway can be
committed, whatever is still on its way, so what it used is owned by a row, or by nobody for ever. It
does not matter what the gateway believes, and no clock but this one counts.

When this process is started again the rows tell which sessions there are; each has a whole lease to be
heard of. A `term` tells numbers from those of the process before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from objectio.abc.kv import Absent, Check, Present
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import (
    AccessDenied,
    InvalidRequest,
    NotFound,
    RemoteProtocolError,
    StorageError,
    Unavailable,
)
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, SessionRecord, decode_session, encode
from objectio.rpc.auth import Peer
from objectio.rpc.dispatch import Incoming
from objectio.rpc.messages import pack
from objectio.rpc.server import Server, ServerConnection
from objectio.rpc.sessions_messages import (
    NAME_CHARS_MAX,
    NOTES_MAX,
    SESSION_ID_BYTES,
    Method,
    Notes,
    Opened,
    Polled,
    check_blobs,
    unpack_handle,
    unpack_ids,
    unpack_notes,
    unpack_open,
    unpack_poll,
)
from objectio.store.presence import BlobsInUse, Survey, Upkeep

ROLE: Final = "gateway"
SESSIONS_MAX: Final = 1_000
LOST_SECONDS: Final = 2.0
"""A gateway whose connection ended is back by then, or it is gone."""
_POOL_ROWS: Final = (keys.POOLS, keys.GROUPS, keys.MOVES, keys.CURRENT_POOL, keys.MAP)
_TICK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.5
_SECONDS_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)

_log: Final = logging.getLogger("objectio.sessions")


class SessionInfo(NamedTuple):
    """`alive`: there is a connection. Times are Unix milliseconds."""

    id: bytes
    name: str
    address: str
    begun_ms: int
    seen_ms: int
    alive: bool


@dataclass(slots=True, eq=False)
class _Session:
    id: bytes
    name: str
    begun_ms: int
    deadline: float
    """When it ends if nothing is heard of it."""
    seen_ms: int = 0
    address: str = ""
    connection: ServerConnection | None = None
    reported: int = -1
    """The number for which the sets were told."""
    active: frozenset[bytes] = field(default_factory=frozenset)
    pinned: frozenset[bytes] = field(default_factory=frozenset)
    ending: asyncio.Task[None] | None = None

    @property
    def row(self) -> bytes:
        return keys.session(self.id)


class SessionService:
    """Adds its methods to the server, and is the `Presence` of the whole cluster. `local` is what
    this process itself uses. Sessions are opened once `serve` was called."""

    def __init__(
        self,
        server: Server,
        kv: KVStore,
        *,
        lease_seconds: float,
        local: BlobsInUse | None = None,
        metrics: Metrics | None = None,
        lost_seconds: float = LOST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kv = kv
        self._lease_seconds = lease_seconds
        self._lost_seconds = min(lost_seconds, lease_seconds)
        self._local = local
        self._clock = clock
        self._upkeep: Upkeep | None = None
        self._term = secrets.token_bytes(8)
        self._number = 0
        self._pools = 0
        """Another number when what gateways know of pools is old."""
        self._changes = (kv.changes.name, kv.changes.number)
        self._sessions: dict[bytes, _Session] = {}
        self._of_connection: dict[ServerConnection, set[_Session]] = {}
        self._wanted = asyncio.Event()
        """Set, and replaced, when polls have something to look at."""
        self._told = asyncio.Event()
        """Likewise for surveys."""
        self._looking: asyncio.Task[None] | None = None
        self._stopped = False
        metrics = metrics or NullMetrics()
        self._fenced = metrics.counter(
            "objectio_sessions_fenced_total", "Gateways that were not heard of and shut out."
        )
        self._survey_seconds = metrics.histogram(
            "objectio_survey_seconds", "Asking all gateways what they use.", _SECONDS_BUCKETS
        )
        metrics.gauge_function(
            "objectio_sessions", "Gateways that may commit.", lambda: len(self._sessions)
        )
        for method, handler in (
            (Method.OPEN, self._open),
            (Method.POLL, self._poll),
            (Method.TELL, self._tell),
            (Method.CLOSE, self._close),
        ):
            server.add(method, handler)

    # Life.

    async def start(self) -> None:
        """Take over the sessions that the rows know."""
        await self._read_rows()
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def serve(self, upkeep: Upkeep) -> None:
        """Take sessions from now on; what they tell is for `upkeep`."""
        self._upkeep = upkeep

    async def stop(self) -> None:
        """The sessions stay as they are, for whoever starts next. Surveys that wait fail."""
        self._stopped = True
        self._wake_polls()
        self._wake_surveys()
        tasks = [session.ending for session in self._sessions.values()]
        for task in (self._looking, *tasks):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @property
    def sessions(self) -> Sequence[SessionInfo]:
        return [
            SessionInfo(
                each.id,
                each.name,
                each.address,
                each.begun_ms,
                each.seen_ms,
                each.connection is not None,
            )
            for each in self._sessions.values()
        ]

    def admit(self, peer: Peer, checks: Sequence[Check]) -> None:
        """For `KVService.admit`: a gateway commits nothing without its session."""
        if peer.role == ROLE and not any(
            isinstance(check, Present) and check.key.startswith(keys.SESSIONS) for check in checks
        ):
            raise AccessDenied("a gateway commits with its session only", reason="session")

    # Surveys.

    async def survey(self) -> Survey:
        """As `Presence.survey`. Raises `Unavailable` when this process is going down."""
        self._number += 1
        number, began = self._number, time.perf_counter()
        self._look_at_pools()
        self._wake_polls()
        await self._read_rows()
        while True:
            self._check_running()
            if all(session.reported >= number for session in self._sessions.values()):
                break
            await self._told.wait()
        self._survey_seconds.observe(time.perf_counter() - began)
        reports = self._sessions.values()
        nothing: frozenset[bytes] = frozenset()
        active = nothing.union(*(session.active for session in reports))
        pinned = nothing.union(*(session.pinned for session in reports))
        if self._local is not None:
            active, pinned = active | self._local.active, pinned | self._local.pins.keys()
        return Survey(active, pinned)

    def _look_at_pools(self) -> None:
        """Whoever called has committed what everybody is to take over, so it is in the log."""
        log, (name, number) = self._kv.changes, self._changes
        changed = log.since(number, b"c/") if log.name == name else None
        self._changes = log.name, log.number
        if changed is None or any(key.startswith(_POOL_ROWS) for key in changed):
            self._pools += 1

    async def _read_rows(self) -> None:
        """Whoever has a row can commit, so it must be waited for: also where a row came back, with
        what the journal gave to an engine that had lost it."""
        before = set(self._sessions)
        rows = await self._kv.ascan_prefix(keys.SESSIONS)
        for row, raw in rows:
            session_id = row[len(keys.SESSIONS) :]
            if session_id not in before:
                self._take_over(session_id, raw)

    def _take_over(self, session_id: bytes, raw: bytes) -> _Session:
        known = self._sessions.get(session_id)
        if known is None:
            record = decode_session(raw)
            deadline = self._clock() + self._lease_seconds
            known = _Session(session_id, record.name, record.begun_ms, deadline)
            self._sessions[session_id] = known
        return known

    def _check_running(self) -> None:
        if self._stopped:
            raise Unavailable("this process is going down", reason="closing")

    def _wake_polls(self) -> None:
        self._wanted.set()
        self._wanted = asyncio.Event()

    def _wake_surveys(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    # What gateways call.

    async def _open(self, call: Incoming) -> None:
        _check_role(call)
        self._check_running()
        name = unpack_open(call.head).name
        if not (0 < len(name) <= NAME_CHARS_MAX and name.isprintable()):
            raise InvalidRequest("a session has a name of 1 to 128 printable characters")
        if self._upkeep is None:
            raise Unavailable("the store is not ready yet", reason="starting")
        if len(self._sessions) >= SESSIONS_MAX:
            raise Unavailable(f"there are {SESSIONS_MAX} sessions already", reason="limit")
        now_ms = int(time.time() * 1000)
        session = _Session(secrets.token_bytes(SESSION_ID_BYTES), name, now_ms, 0.0)
        self._sessions[session.id] = session
        self._hear(session, call)
        try:
            await self._kv.commit(
                [Absent(session.row)], [(session.row, encode(SessionRecord(name, now_ms)))]
            )
        except BaseException:
            self._end(session)  # nobody knows whether the row is there
            raise
        if session.ending is not None:
            raise _gone()
        _log.info("gateway %s has a session", name)
        lease_ms = int(self._lease_seconds * 1000)
        call.reply(pack(Opened(session.id, self._term, self._number, self._pools, lease_ms)))

    async def _poll(self, call: Incoming) -> None:
        wanted = unpack_poll(call.head)
        session = await self._heard(call, wanted.session)
        if wanted.term == self._term and wanted.number > session.reported:
            if wanted.number > self._number:
                raise RemoteProtocolError("an answer to no survey", reason="malformed")
            session.active, session.pinned = unpack_ids(call.payload, wanted.active)
            session.reported = wanted.number
            self._wake_surveys()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease_seconds / 3):
                while (
                    (wanted.term, wanted.number) == (self._term, self._number)
                    and session.ending is None
                    and not self._stopped
                ):
                    await self._wanted.wait()
        self._check_running()
        if session.ending is not None:
            raise _gone()
        call.reply(pack(Polled(self._term, self._number, self._pools)))

    async def _tell(self, call: Incoming) -> None:
        await self._heard(call, unpack_handle(call.head).session)
        if self._upkeep is None:
            raise Unavailable("the store is not ready yet", reason="starting")
        notes: Notes = unpack_notes(call.payload)
        if len(notes.abandoned) + len(notes.damaged) > NOTES_MAX:
            raise InvalidRequest(f"at most {NOTES_MAX} notes at once", reason="limit")
        check_blobs([*notes.abandoned, *(blob for blob, _, _ in notes.damaged)])
        for blob in notes.abandoned:
            self._upkeep.abandon(BlobRef(*blob))
        for blob, mask, examine in notes.damaged:
            self._upkeep.damaged(BlobRef(*blob), mask, examine=examine)
        if notes.garbage:
            self._upkeep.garbage()
        if notes.repairs:
            self._upkeep.repairs()
        call.reply()

    async def _close(self, call: Incoming) -> None:
        session = await self._heard(call, unpack_handle(call.head).session)
        await asyncio.shield(self._end(session))
        call.reply()

    async def _heard(self, call: Incoming, session_id: bytes) -> _Session:
        """The session, of which something was heard just now."""
        _check_role(call)
        self._check_running()
        if len(session_id) != SESSION_ID_BYTES:
            raise RemoteProtocolError("a session that is none", reason="malformed")
        session = self._sessions.get(session_id)
        if session is None:
            raw = await self._kv.aget(keys.session(session_id))
            if raw is None:
                raise _gone()
            session = self._take_over(session_id, raw)
        if session.ending is not None:
            raise _gone()
        self._hear(session, call)
        return session

    # Who is there.

    def _hear(self, session: _Session, call: Incoming) -> None:
        connection = call.connection
        if not connection.is_open:
            return
        session.deadline = self._clock() + self._lease_seconds
        session.seen_ms = int(time.time() * 1000)
        if session.connection is connection:
            return
        if session.connection is not None:
            self._of_connection.get(session.connection, set()).discard(session)
        session.connection = connection
        session.address = connection.last_address
        held = self._of_connection.get(connection)
        if held is None:
            held = self._of_connection[connection] = set()
            connection.on_end.append(partial(self._disconnected, connection))
        held.add(session)

    def _disconnected(self, connection: ServerConnection) -> None:
        soon = self._clock() + self._lost_seconds
        for session in self._of_connection.pop(connection, ()):
            session.connection = None
            session.deadline = min(session.deadline, soon)

    async def _look(self) -> None:
        """End sessions that are over. When this process itself stood still, it has not read what
        came meanwhile, and everybody is given that time again."""
        tick = min(_TICK_SECONDS, self._lost_seconds / 4)
        while True:
            due = self._clock() + tick
            await asyncio.sleep(tick)
            now = self._clock()
            late = now - due
            for session in list(self._sessions.values()):
                if late > tick:
                    session.deadline += late
                if session.deadline <= now and session.ending is None:
                    _log.warning("gateway %s was not heard of: its session ends", session.name)
                    self._fenced.inc()
                    self._end(session)

    def _end(self, session: _Session) -> asyncio.Task[None]:
        if session.ending is None:
            session.ending = asyncio.get_running_loop().create_task(self._fence(session))
            self._wake_polls()
        return session.ending

    async def _fence(self, session: _Session) -> None:
        """Nothing can be committed with the session once its row is gone; until then it counts."""
        while True:
            try:
                await self._kv.commit([], [(session.row, None)])
                break
            except StorageError as error:
                _log.warning("the session of %s cannot be ended: %s", session.name, error)
                await asyncio.sleep(_RETRY_SECONDS)
        self._sessions.pop(session.id, None)
        if session.connection is not None:
            self._of_connection.get(session.connection, set()).discard(session)
        self._wake_surveys()


def _check_role(call: Incoming) -> None:
    if call.peer.role != ROLE:
        raise AccessDenied(f"sessions are for gateways, not for {call.peer.role}", reason="role")


def _gone() -> NotFound:
    return NotFound("there is no such session any more", kind="session")
