"""A gateway commits as long as it has a session, and surveys know what it uses."""

from __future__ import annotations

import asyncio

import pytest

from objectio.abc.kv import Absent, Equals, Present
from objectio.errors import (
    AccessDenied,
    CommitConflict,
    InvalidRequest,
    NotFound,
    ObjectIOError,
    RemoteProtocolError,
    Unauthenticated,
    Unavailable,
)
from objectio.meta import keys
from objectio.meta.records import decode_session
from objectio.model.stripe import new_blob_id
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.messages import pack
from objectio.rpc.sessions_messages import (
    IDS_MAX,
    Handle,
    Method,
    Notes,
    Open,
    Poll,
    unpack_ids,
    unpack_opened,
)
from objectio.store import session_service


class TestTheRightToCommit:
    async def test_each_commit_has_it_and_conflicts_are_the_callers_own(self, meta, gateway):
        ref = gateway.begin()
        await gateway.own(ref)
        assert meta.kv.get(keys.blob(ref.blob)) == b"owner"
        with pytest.raises(CommitConflict) as raised:
            await gateway.own(ref, [Present(keys.blob(ref.blob)), Absent(keys.blob(ref.blob))])
        assert raised.value.fields["check"] == Absent(keys.blob(ref.blob))
        with pytest.raises(CommitConflict) as raised:
            await gateway.kv.commit([Equals(b"k", b"v")], [])
        assert raised.value.fields["check"] == Equals(b"k", b"v")
        assert gateway.session.fence == Present(keys.session(gateway.id))
        await gateway.kv.barrier()

    async def test_the_row_says_who_it_is(self, meta, make_gateway):
        gateway = await make_gateway(meta, "g7", name="the seventh").open()
        record = decode_session(meta.kv.get(keys.session(gateway.id)))
        [info] = meta.sessions.sessions
        assert (info.id, info.name, info.alive) == (gateway.id, "the seventh", True)
        assert (record.name, record.begun_ms) == ("the seventh", info.begun_ms)
        assert info.seen_ms >= info.begun_ms > 1_600_000_000_000

    async def test_without_a_session_writes_are_refused_at_once(self, meta, make_gateway):
        gateway = make_gateway(meta)
        gateway.session.start()
        with pytest.raises(Unavailable) as raised:
            gateway.kv.check_ready()
        assert raised.value.fields["reason"] == "disconnected"
        await gateway.channel.connect()
        with pytest.raises(Unavailable) as raised:
            await gateway.kv.commit([], [(b"k", b"v")])
        assert raised.value.fields["reason"] == "session"
        with pytest.raises(Unavailable) as raised:
            gateway.kv.check_ready()
        assert raised.value.fields["reason"] == "session"
        await gateway.session.open()
        gateway.kv.check_ready()

    async def test_a_row_that_is_gone_means_another_session(self, meta, gateway, until):
        """However that came to be."""
        before = gateway.id
        await meta.kv.commit([], [(keys.session(before), None)])
        with pytest.raises(Unavailable) as raised:
            await gateway.kv.commit([], [(b"k", b"v")])
        assert raised.value.fields["reason"] == "fenced"
        assert meta.kv.get(b"k") is None
        with pytest.raises(Unavailable):
            gateway.kv.check_ready()
        await until(lambda: gateway.session.is_open)
        assert gateway.id != before
        await gateway.kv.commit([], [(b"k", b"v")])

    async def test_a_gateway_commits_nothing_without_its_session(self, meta, gateway):
        gateway.kv.fence = None
        for checks in ([], [Absent(keys.session(gateway.id))], [Present(b"k")]):
            with pytest.raises(AccessDenied):
                await gateway.kv.commit(checks, [(b"k", b"v")])
        assert meta.kv.get(b"k") is None

    async def test_closing_gives_it_back(self, meta, gateway):
        assert meta.row_ids() == {gateway.id}
        await gateway.session.close()
        assert meta.row_ids() == set()
        assert meta.sessions.sessions == []
        assert meta.counts.values["objectio_sessions_fenced_total"] == 0
        with pytest.raises(Unavailable, match="closed"):
            await gateway.kv.commit([], [(b"k", b"v")])
        gateway.session.start()
        assert not gateway.session.is_open

    async def test_what_was_sent_before_closing_is_committed(self, meta, gateway):
        ref = gateway.begin()
        own = asyncio.ensure_future(gateway.own(ref))
        await asyncio.sleep(0)
        await gateway.session.close()
        await own
        assert meta.kv.get(keys.blob(ref.blob)) == b"owner"

    async def test_sessions_have_a_bound(self, meta, make_gateway, monkeypatch, until):
        monkeypatch.setattr(session_service, "SESSIONS_MAX", 2)
        first, second, third = (make_gateway(meta, f"g{number}") for number in range(3))
        await first.open()
        await second.open()
        await third.channel.connect()
        third.session.start()
        await until(lambda: "already" in third.session._why)
        await first.session.close()
        await third.session.open()
        assert len(meta.row_ids()) == 2

    async def test_sessions_are_taken_when_upkeep_is_there(self, make_meta, make_gateway, until):
        meta = await make_meta(serve=False)
        gateway = make_gateway(meta)
        await gateway.channel.connect()
        gateway.session.start()
        await until(lambda: "not ready" in gateway.session._why)
        assert meta.row_ids() == set()
        with pytest.raises(Unavailable, match="not ready"):
            await gateway.kv.commit([], [(b"k", b"v")])
        meta.sessions.serve(meta.notes)
        await gateway.session.open()

    async def test_two_gateways_of_one_name(self, short, make_gateway, until):
        first = await make_gateway(short, "same").open()
        second = await make_gateway(short, "same").open()
        assert first.id != second.id
        assert [each.name for each in short.sessions.sessions] == ["same", "same"]
        mine, yours = first.begin(), second.begin()
        assert (await short.sessions.survey()).active == {mine.blob, yours.blob}
        first.freeze()
        await until(lambda: short.row_ids() == {second.id})
        await second.own(yours)
        with pytest.raises(Unavailable):
            await first.own(mine)


class TestSurveys:
    async def test_where_there_is_nobody_else(self, meta):
        meta.local.active.add(b"a")
        meta.local.pins[b"p"] += 1
        assert await meta.sessions.survey() == ({b"a"}, {b"p"})

    async def test_everything_that_anybody_uses(self, meta, make_gateway):
        gateways = [await make_gateway(meta, f"g{number}").open() for number in range(3)]
        active, pinned = set(), set()
        for gateway in gateways:
            ref, read = gateway.begin(), gateway.begin()
            gateway.in_use.active.discard(read.blob)
            gateway.in_use.pin([read, read])
            active.add(ref.blob)
            pinned.add(read.blob)
        meta.local.active.add(b"here")
        assert await meta.sessions.survey() == (active | {b"here"}, pinned)
        gateways[0].in_use.active.clear()
        gateways[1].in_use.unpin([read])
        gateways[2].in_use.unpin([read])
        found = await meta.sessions.survey()
        assert found.pinned == pinned  # it was read twice
        assert len(found.active) == 3
        assert meta.counts.values["objectio_survey_seconds"] == 2
        assert meta.counts.functions["objectio_sessions"]() == 3

    async def test_thousands_of_blobs(self, meta, gateway):
        active = {bytes(new_blob_id()) for _ in range(1000)}
        pinned = {bytes(new_blob_id()) for _ in range(5000)}
        gateway.in_use.active |= active
        gateway.in_use.pins.update(pinned)
        assert await meta.sessions.survey() == (active, pinned)

    async def test_what_was_committed_before_is_taken_over(self, meta, make_gateway):
        gateways = [await make_gateway(meta, f"g{number}").open() for number in range(3)]
        for number in range(20):
            value = b"%d" % number
            await meta.touch(value)
            await meta.sessions.survey()
            assert [gateway.pools.value for gateway in gateways] == [value] * 3

    async def test_pools_are_read_again_when_they_were_changed(self, meta, gateway):
        await meta.sessions.survey()
        await meta.kv.commit([], [(b"c/scrub", b""), (b"o", b""), (keys.session(bytes(3)), None)])
        await meta.sessions.survey()
        assert gateway.pools.refreshed == 1
        for count, row in enumerate(
            (keys.pool(1), keys.groups(1), keys.move(1, 2), keys.CURRENT_POOL, keys.MAP), 2
        ):
            await gateway.kv.commit([], [(row, b"")])
            for _ in range(2):
                await meta.sessions.survey()
                assert gateway.pools.refreshed == count
        meta.kv.changes.forget()
        await meta.sessions.survey()
        assert gateway.pools.refreshed == 7

    async def test_one_that_begins_while_another_is_under_way(self, meta, make_gateway, until):
        slow, quick = [await make_gateway(meta, name).open() for name in ("slow", "quick")]
        slow.pools.may.clear()
        await meta.touch()
        first = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: slow.pools.refreshed == 2 and quick.pools.refreshed == 2)
        early = quick.begin()
        await meta.touch(b"new")
        second, third = (asyncio.ensure_future(meta.sessions.survey()) for _ in range(2))
        await until(lambda: quick.pools.value == b"new")
        late = slow.begin()
        assert not first.done()
        slow.pools.may.set()
        await first
        found = await second
        assert found.active == {early.blob, late.blob}
        assert slow.pools.value == b"new"
        assert await third == found
        assert slow.pools.refreshed <= 4

    async def test_a_session_that_begins_meanwhile_is_waited_for(self, meta, make_gateway, until):
        slow = await make_gateway(meta, "slow").open()
        slow.pools.may.clear()
        await meta.touch()
        survey = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: slow.pools.refreshed == 2)
        new = make_gateway(meta, "new")
        read = new.begin()
        new.in_use.active.clear()
        new.in_use.pin([read])
        new.pools.may.clear()
        await new.channel.connect()
        new.session.start()
        await until(lambda: new.pools.refreshed == 1)
        slow.pools.may.set()
        await until(lambda: meta.sessions._sessions[slow.id].reported == 1)
        assert not survey.done()
        new.pools.may.set()
        assert (await survey).pinned == {read.blob}

    async def test_who_cannot_read_the_pools_is_shut_out(self, short, make_gateway, until):
        gateway = await make_gateway(short).open()
        before = gateway.id
        gateway.pools.error = NotFound("there is no pool 9", kind="pool")
        ref = gateway.begin()
        await short.touch()
        assert await short.sessions.survey() == (set(), set())
        assert before not in short.row_ids()
        with pytest.raises(Unavailable):
            await gateway.own(ref)
        gateway.pools.error = None
        await until(lambda: gateway.session.is_open)

    async def test_it_ends_when_the_process_does(self, meta, gateway, until):
        gateway.pools.may.clear()
        await meta.touch()
        survey = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: gateway.pools.refreshed == 2)
        await meta.sessions.stop()
        with pytest.raises(Unavailable):
            await survey
        with pytest.raises(Unavailable):
            await meta.sessions.survey()

    async def test_a_row_that_came_back_is_waited_for(self, meta, gateway, until):
        """The journal may give the engine rows that it had lost."""
        ref = gateway.begin()
        gateway.freeze()
        meta.sessions._sessions.clear()
        survey = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: gateway.id in meta.sessions._sessions)
        assert not survey.done()
        gateway.wake()
        assert (await survey).active == {ref.blob}


class TestWhoMay:
    async def test_an_osd_has_no_session(self, meta, make_gateway):
        osd = make_gateway(meta, "o1", role="osd")
        await osd.channel.connect()
        for method, head in (
            (Method.OPEN, Open("o1")),
            (Method.POLL, Poll(bytes(16), b"", 0, 0)),
            (Method.TELL, Handle(bytes(16))),
            (Method.CLOSE, Handle(bytes(16))),
        ):
            with pytest.raises(AccessDenied):
                await osd.channel.call(method, pack(head))
        assert meta.row_ids() == set()
        await osd.kv.commit([], [(b"c/osd/1", b"")])  # that it may

    async def test_a_stranger_has_nothing(self, meta):
        for secret, role in ((bytes(32), "gateway"), (bytes(range(100, 132)), "visitor")):
            who = Identity(secret=secret, role=role, node="x")
            channel = Channel(meta.address, who, wanted_role="meta")
            with pytest.raises(Unauthenticated):
                await channel.connect()
            with pytest.raises(Unavailable):
                await RemoteKV(channel).aget(b"k")
            await channel.close()

    async def test_sessions_that_are_none(self, meta, gateway):
        call = gateway.channel.call
        for method in (Method.POLL, Method.TELL, Method.CLOSE):
            for session, error in ((bytes(16), NotFound), (b"short", RemoteProtocolError)):
                head = Poll(session, b"", 0, 0) if method is Method.POLL else Handle(session)
                with pytest.raises(error):
                    await call(method, pack(head))
        for name in ("", "a\nb", "n" * 129):
            with pytest.raises(InvalidRequest):
                await call(Method.OPEN, pack(Open(name)))
        assert meta.row_ids() == {gateway.id}

    async def test_answers_that_are_none(self, meta, gateway):
        opened = unpack_opened((await gateway.channel.call(Method.OPEN, pack(Open("x")))).head)

        async def poll(number, active, payload):
            head = pack(Poll(opened.session, opened.term, number, active))
            await gateway.channel.call(Method.POLL, head, (payload,))

        for number, active, payload in (
            (opened.number + 1, 0, b""),
            (opened.number, 2, bytes(16)),
            (opened.number, -1, b""),
            (opened.number, 0, bytes(17)),
        ):
            with pytest.raises(RemoteProtocolError):
                await poll(number, active, payload)
        with pytest.raises(InvalidRequest):
            unpack_ids(bytes(16 * (IDS_MAX + 1)), 0)

    async def test_notes_have_a_bound(self, meta, gateway, monkeypatch):
        monkeypatch.setattr(session_service, "NOTES_MAX", 3)
        blob = (bytes(16), 1, 1)

        async def tell(*notes):
            await gateway.channel.call(
                Method.TELL, pack(Handle(gateway.id)), (pack(Notes(*notes)),)
            )

        with pytest.raises(InvalidRequest):
            await tell([blob] * 2, [(blob, 1, False)] * 2, False, False)
        for bad in ((b"short", 1, 1), (bytes(16), -1, 1), (bytes(16), 1, -1)):
            with pytest.raises(ObjectIOError):
                await tell([bad], [], False, False)
            with pytest.raises(ObjectIOError):
                await tell([], [(bad, 1, False)], False, False)
        assert meta.notes.told == []
