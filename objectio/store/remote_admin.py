"""The store's administration, asked from another process: `RemoteAdmin` there, `AdminService` here.

Errors keep their class and their sentence. An order that was begun is carried out, also when the
connection of whoever gave it is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
    StorageAdmin,
)
from objectio.errors import AccessDenied
from objectio.rpc.admin_messages import (
    Method,
    Target,
    unpack_disk,
    unpack_disks,
    unpack_findings,
    unpack_journal,
    unpack_rebalance,
    unpack_repair,
    unpack_scrub,
    unpack_target,
)
from objectio.rpc.client import Channel
from objectio.rpc.dispatch import Incoming
from objectio.rpc.messages import Unpacker, pack
from objectio.rpc.server import Server

ROLES: Final = frozenset({"gateway", "meta"})
"""Whose operators may ask."""
ASK_SECONDS: Final = 60.0
ORDER_SECONDS: Final = 1_800.0
"""Preparing and opening a device, or planning the moves of all groups, may take minutes."""


class RemoteAdmin:
    """Implements `StorageAdmin` at the end of a channel, which is the caller's."""

    def __init__(
        self,
        channel: Channel,
        *,
        ask_seconds: float = ASK_SECONDS,
        order_seconds: float = ORDER_SECONDS,
    ) -> None:
        self._channel = channel
        self._ask_seconds = ask_seconds
        self._order_seconds = order_seconds

    async def disks(self) -> Sequence[DiskStatus]:
        disks: list[DiskStatus] = await self._ask(Method.DISKS, unpack_disks)
        return disks

    async def replace(self, osd: int) -> DiskStatus:
        return await self._order(Method.REPLACE, osd)

    async def drain(self, osd: int) -> DiskStatus:
        return await self._order(Method.DRAIN, osd)

    async def undrain(self, osd: int) -> DiskStatus:
        return await self._order(Method.UNDRAIN, osd)

    async def remove(self, osd: int) -> DiskStatus:
        return await self._order(Method.REMOVE, osd)

    async def repair(self) -> RepairStatus:
        status: RepairStatus = await self._ask(Method.REPAIR, unpack_repair)
        return status

    async def scrub(self) -> ScrubStatus:
        status: ScrubStatus = await self._ask(Method.SCRUB, unpack_scrub)
        return status

    async def start_scrub(self) -> ScrubStatus:
        status: ScrubStatus = await self._ask(Method.START_SCRUB, unpack_scrub)
        return status

    async def rebalance(self) -> RebalanceStatus:
        status: RebalanceStatus = await self._ask(Method.REBALANCE, unpack_rebalance)
        return status

    async def journal(self) -> JournalStatus:
        status: JournalStatus = await self._ask(Method.JOURNAL, unpack_journal)
        return status

    async def doctor(self) -> Sequence[Finding]:
        findings: list[Finding] = await self._ask(Method.DOCTOR, unpack_findings)
        return findings

    async def _ask(self, method: Method, unpack: Unpacker) -> Any:
        reply = await self._channel.call(
            method, background=False, timeout_seconds=self._ask_seconds
        )
        return unpack(reply.payload)

    async def _order(self, method: Method, osd: int) -> DiskStatus:
        reply = await self._channel.call(
            method, pack(Target(osd)), background=False, timeout_seconds=self._order_seconds
        )
        disk: DiskStatus = unpack_disk(reply.payload)
        return disk


class AdminService:
    """Adds its methods to the server, for peers whose role is one of `roles`."""

    def __init__(
        self, server: Server, admin: StorageAdmin, *, roles: frozenset[str] = ROLES
    ) -> None:
        self._roles = roles
        self._orders: set[asyncio.Task[None]] = set()
        asked: dict[Method, Callable[[], Awaitable[object]]] = {
            Method.DISKS: admin.disks,
            Method.REPAIR: admin.repair,
            Method.SCRUB: admin.scrub,
            Method.START_SCRUB: admin.start_scrub,
            Method.REBALANCE: admin.rebalance,
            Method.JOURNAL: admin.journal,
            Method.DOCTOR: admin.doctor,
        }
        ordered: dict[Method, Callable[[int], Awaitable[object]]] = {
            Method.REPLACE: admin.replace,
            Method.DRAIN: admin.drain,
            Method.UNDRAIN: admin.undrain,
            Method.REMOVE: admin.remove,
        }
        for method, ask in asked.items():
            server.add(method, partial(self._asked, ask))
        for method, order in ordered.items():
            server.add(method, partial(self._ordered, order))

    async def stop(self) -> None:
        """Orders under way are cut off."""
        for task in self._orders:
            task.cancel()
        await asyncio.gather(*self._orders, return_exceptions=True)

    async def _asked(self, ask: Callable[[], Awaitable[object]], call: Incoming) -> None:
        self._check_role(call)
        call.reply(b"", [pack(await ask())])

    def _ordered(self, order: Callable[[int], Awaitable[object]], call: Incoming) -> None:
        """In a task that the dispatcher does not know: whoever ordered it may go."""
        self._check_role(call)
        work = order(unpack_target(call.head).osd)
        task = asyncio.get_running_loop().create_task(_carry_out(work, call))
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    def _check_role(self, call: Incoming) -> None:
        if call.peer.role not in self._roles:
            raise AccessDenied(
                f"the store's administration is not for {call.peer.role}", reason="role"
            )


async def _carry_out(work: Awaitable[object], call: Incoming) -> None:
    try:
        done = await work
    except asyncio.CancelledError as error:
        call.fail(error)
        raise
    except Exception as error:
        call.fail(error)
    else:
        call.reply(b"", [pack(done)])
