"""What gateways tell upkeep arrives, in few calls, and a blob is active until that is so."""

from __future__ import annotations

import asyncio

from objectio.errors import Unavailable
from objectio.meta.records import BlobRef
from objectio.rpc.sessions_messages import Method
from objectio.store import sessions


def count_tells(meta):
    tells = []
    handlers = meta.server.dispatcher.handlers
    tell = handlers[Method.TELL]

    def counting(call):
        tells.append(call)
        return tell(call)

    handlers[Method.TELL] = counting
    return tells


async def test_all_of_one_turn_in_one_call(meta, gateway, until):
    tells = count_tells(meta)
    refs = [gateway.begin() for _ in range(100)]
    for ref in refs:
        gateway.session.abandon(ref)
        gateway.session.garbage()
        gateway.session.damaged(ref, 0b01)
        gateway.session.damaged(ref, 0b10)
    gateway.session.damaged(refs[7], 0, examine=True)
    gateway.session.repairs()
    assert len(gateway.in_use.active) == 100
    await until(lambda: not gateway.in_use.active)
    assert len(tells) == 1
    assert meta.notes.told == [
        *(("abandon", ref) for ref in refs),
        *(("damaged", ref, 0b11, ref == refs[7]) for ref in refs),
        ("garbage",),
        ("repairs",),
    ]
    assert all(type(told[1]) is BlobRef for told in meta.notes.told[:200])


async def test_more_than_one_call_takes(meta, gateway, until, monkeypatch):
    monkeypatch.setattr(sessions, "NOTES_MAX", 10)
    monkeypatch.setattr(sessions, "DAMAGED_MAX", 4)
    tells = count_tells(meta)
    refs = [gateway.begin() for _ in range(20)]
    for ref in refs:
        gateway.session.abandon(ref)
        gateway.session.damaged(ref, 1)
    await until(lambda: not gateway.in_use.active)
    assert len(tells) == 4
    told = meta.notes.told
    assert [each[1] for each in told if each[0] == "abandon"] == refs
    assert [each[1] for each in told if each[0] == "damaged"] == refs[:4]


async def test_a_blob_is_active_until_it_was_dealt_with(meta, gateway, until):
    ref = gateway.begin()
    active = []

    def abandon(told):
        active.append(told.blob in gateway.in_use.active)

    meta.notes.abandon = abandon
    gateway.session.abandon(ref)
    await until(lambda: not gateway.in_use.active)
    assert active == [True]


async def test_they_survive_a_restart(meta, gateway, until):
    await meta.stop()
    ref = gateway.begin()
    gateway.session.abandon(ref)
    gateway.session.damaged(ref, 5)
    gateway.session.repairs()
    await asyncio.sleep(0)
    assert gateway.in_use.active
    await meta.start()
    await until(lambda: not gateway.in_use.active)
    assert meta.notes.told == [("abandon", ref), ("damaged", ref, 5, False), ("repairs",)]


async def test_upkeep_that_fails_is_told_again(meta, gateway, until):
    calls = []

    def abandon(ref):
        calls.append(ref)
        if len(calls) == 1:
            raise Unavailable("not now")

    meta.notes.abandon = abandon
    ref = gateway.begin()
    gateway.session.abandon(ref)
    await until(lambda: not gateway.in_use.active)
    assert calls == [ref, ref]


async def test_a_lost_session_loses_no_notes(meta, gateway, until):
    before = gateway.id
    gateway.freeze()
    await asyncio.shield(meta.sessions._end(meta.sessions._sessions[before]))
    ref = gateway.begin()
    gateway.session.abandon(ref)
    gateway.wake()
    await until(lambda: not gateway.in_use.active)
    assert gateway.id != before
    assert meta.notes.told == [("abandon", ref)]


async def test_closing_tells_what_is_left(meta, gateway):
    ref = gateway.begin()
    gateway.session.abandon(ref)
    gateway.session.garbage()
    await gateway.session.close()
    assert meta.notes.told == [("abandon", ref), ("garbage",)]
    assert meta.row_ids() == set()


async def test_closing_waits_for_nobody_for_ever(meta, gateway):
    meta.engine.gate.clear()
    gateway.session.abandon(gateway.begin())
    async with asyncio.timeout(15):
        await gateway.session.close(0.05)
    meta.engine.gate.set()
