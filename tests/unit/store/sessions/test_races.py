"""What happens between a survey, a commit that is on its way, and the end of a session."""

from __future__ import annotations

import asyncio

import pytest

from objectio.abc.kv import Present
from objectio.errors import Unavailable
from objectio.meta import keys


async def refused(work, *reasons):
    with pytest.raises(Unavailable) as raised:
        await work
    assert raised.value.fields["reason"] in reasons


class TestFencing:
    async def test_a_commit_that_is_still_on_its_way(self, short, make_gateway, until):
        """It is in the socket when its session ends, and is read after the survey is through."""
        gateway = await make_gateway(short).open()
        ref = gateway.begin()
        await until(lambda: gateway.session._call is not None)
        short.connection_of(gateway)._transport.pause_reading()
        own = asyncio.ensure_future(gateway.own(ref))
        await until(lambda: gateway.channel.connection.calls >= 2)
        found = await short.sessions.survey()
        assert found.active == set()
        assert short.kv.get(keys.blob(ref.blob)) is None
        assert not own.done()
        short.connection_of(gateway)._transport.resume_reading()
        await refused(own, "fenced")
        assert short.kv.get(keys.blob(ref.blob)) is None
        assert short.counts.values["objectio_sessions_fenced_total"] >= 1

    async def test_a_commit_that_was_faster(self, short, make_gateway, until):
        """It is with the engine when the session is to end: the survey waits for both, in order."""
        gateway = await make_gateway(short).open()
        ref = gateway.begin()
        short.engine.gate.clear()
        begun = short.engine.begun
        own = asyncio.ensure_future(gateway.own(ref))
        await until(lambda: short.engine.begun > begun)
        gateway.freeze()
        survey = asyncio.ensure_future(short.sessions.survey())
        await until(lambda: short.sessions._sessions[gateway.id].ending is not None)
        assert not survey.done()
        short.engine.gate.set()
        await survey
        assert short.kv.get(keys.blob(ref.blob)) == b"owner"
        await own

    async def test_a_gateway_that_slept_longer_than_its_lease(self, short, make_gateway, until):
        gateway = await make_gateway(short).open()
        before, fence = gateway.id, gateway.session.fence
        ref = gateway.begin()
        gateway.freeze()
        assert (await short.sessions.survey()).active == set()
        # What is not in a row by now was swept away. It wakes up, and knows nothing of that.
        assert gateway.session.fence == fence
        await refused(gateway.own(ref), "fenced")
        assert not gateway.session.is_open
        gateway.wake()
        await until(lambda: gateway.session.is_open)
        assert gateway.id != before
        # The check would hold now. The blob is lost all the same.
        await refused(gateway.own(ref), "fenced")
        assert short.kv.get(keys.blob(ref.blob)) is None
        await gateway.own(gateway.begin())

    async def test_it_may_wake_up_with_the_poll_first(self, short, make_gateway, until):
        gateway = await make_gateway(short).open()
        before = gateway.id
        ref = gateway.begin()
        gateway.freeze()
        await until(lambda: before not in short.row_ids())
        gateway.wake()
        await until(lambda: gateway.session.is_open and gateway.id != before)
        await refused(gateway.own(ref), "fenced")
        assert (await short.sessions.survey()).active == {ref.blob}  # it is given up later

    async def test_what_is_begun_between_two_sessions(self, meta, make_gateway, until):
        """Neither of them has told of it, and the pools may be old ones."""
        gateway = make_gateway(meta)
        early = gateway.begin()
        gateway.pools.may.clear()
        await gateway.channel.connect()
        gateway.session.start()
        await until(lambda: gateway.pools.refreshed == 1)
        between = gateway.begin()
        await refused(gateway.own(between), "session")
        gateway.pools.may.set()
        await gateway.session.open()
        for ref in (early, between):
            await refused(gateway.own(ref), "fenced")
        await gateway.own(gateway.begin())

    async def test_blobs_that_ended_are_forgotten(self, meta, make_gateway):
        gateway = make_gateway(meta)
        ref = gateway.begin()
        await gateway.open()
        assert gateway.session._lost == {ref.blob}
        await meta.sessions.survey()
        assert gateway.session._lost == {ref.blob}
        gateway.in_use.active.clear()
        await meta.sessions.survey()
        assert gateway.session._lost == set()

    async def test_a_session_counts_until_its_row_is_gone(self, short, make_gateway, until):
        gateway = await make_gateway(short).open()
        ref = gateway.begin()
        assert (await short.sessions.survey()).active == {ref.blob}
        short.engine.error = OSError(28, "full")
        gateway.freeze()
        session = short.sessions._sessions[gateway.id]
        await until(lambda: session.ending is not None)
        begun = short.engine.begun
        survey = asyncio.ensure_future(short.sessions.survey())
        await until(lambda: short.engine.begun > begun)
        assert not survey.done()
        assert gateway.id in short.row_ids()
        short.engine.error = None
        assert (await survey).active == set()
        assert short.row_ids() == set()

    async def test_a_process_that_stood_still_blames_nobody(self, make_meta, make_gateway, until):
        """Its clock says that all leases are over. It has not read what came meanwhile."""
        ahead = [0.0]
        clock = asyncio.get_running_loop().time
        meta = await make_meta(30.0, 2.0, clock=lambda: clock() + ahead[0])
        gateway = await make_gateway(meta).open()
        session = meta.sessions._sessions[gateway.id]
        await until(lambda: session.reported == 0)
        gateway.freeze()
        before = session.deadline
        ahead[0] = 1000.0
        await until(lambda: session.deadline > before + 900)
        assert session.ending is None
        assert meta.row_ids() == {gateway.id}


class TestConnections:
    async def test_one_that_is_cut_while_the_engine_commits(self, meta, gateway, until):
        """Nobody knows whether it happened. It did, and is known by the time that the blob is given
        up: until then it is active."""
        before = gateway.id
        ref = gateway.begin()
        meta.engine.gate.clear()
        begun = meta.engine.begun
        own = asyncio.ensure_future(gateway.own(ref))
        await until(lambda: meta.engine.begun > begun)
        gateway.cut()
        await refused(own, "lost")
        gateway.session.abandon(ref)
        await until(lambda: gateway.channel.connection is not None)
        assert (await meta.sessions.survey()).active == {ref.blob}
        assert meta.notes.told == []
        meta.engine.gate.set()
        await until(lambda: meta.notes.told)
        assert meta.notes.told == [("abandon", ref)]
        assert meta.kv.get(keys.blob(ref.blob)) == b"owner"
        await until(lambda: ref.blob not in gateway.in_use.active)
        assert gateway.id == before

    async def test_one_that_is_cut_before_the_commit_is_read(self, meta, gateway, until):
        """It is given up while the commit still stands in a socket: it must not come out of it."""
        ref = gateway.begin()
        await until(lambda: gateway.session._call is not None)
        old = meta.connection_of(gateway)
        old._transport.pause_reading()
        own = asyncio.ensure_future(gateway.own(ref))
        await until(lambda: gateway.channel.connection.calls >= 2)
        gateway.cut()
        await refused(own, "lost")
        gateway.session.abandon(ref)
        await until(lambda: meta.notes.told)
        assert meta.kv.get(keys.blob(ref.blob)) is None
        old._transport.resume_reading()
        await old.closed
        await meta.kv.commit([], [])
        assert meta.kv.get(keys.blob(ref.blob)) is None

    async def test_who_does_not_come_back_is_shut_out_soon(self, make_meta, make_gateway, until):
        """Long before its lease is over."""
        meta = await make_meta(60.0, 0.3)
        gateway = await make_gateway(meta).open()
        other = await make_gateway(meta, "other").open()
        gateway.freeze()
        other.cut()
        await gateway.channel.close()
        assert (await meta.sessions.survey()) == (set(), set())
        await until(lambda: meta.row_ids() == {other.id})
        assert [each.alive for each in meta.sessions.sessions] == [True]

    async def test_a_survey_goes_on_over_another_connection(self, meta, gateway, until):
        before = gateway.id
        ref = gateway.begin()
        gateway.pools.may.clear()
        await meta.touch()
        survey = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: gateway.pools.refreshed == 2)
        gateway.cut()
        gateway.pools.may.set()
        assert (await survey).active == {ref.blob}
        assert gateway.id == before
        await gateway.own(ref)


class TestRestarts:
    async def test_of_the_metadata_while_a_survey_waits(self, meta, gateway, until):
        before = gateway.id
        ref = gateway.begin()
        gateway.pools.may.clear()
        await meta.touch()
        survey = asyncio.ensure_future(meta.sessions.survey())
        await until(lambda: gateway.pools.refreshed == 2)
        await meta.restart()
        await refused(survey, "closing")
        again = asyncio.ensure_future(meta.sessions.survey())
        gateway.pools.may.set()
        assert (await again).active == {ref.blob}
        assert gateway.id == before
        await gateway.own(ref)

    async def test_numbers_of_the_process_before_count_for_nothing(self, meta, gateway, until):
        for _ in range(5):
            await meta.sessions.survey()
        ref = gateway.begin()
        await meta.restart()
        await meta.touch(b"new")
        assert (await meta.sessions.survey()).active == {ref.blob}
        assert gateway.pools.value == b"new"

    async def test_of_the_metadata_and_somebody_does_not_come_back(
        self, short, make_gateway, until
    ):
        gone = await make_gateway(short, "gone").open()
        stays = await make_gateway(short, "stays").open()
        ref, lost = stays.begin(), gone.begin()
        await short.stop()
        gone.freeze()
        await gone.channel.close()
        await short.start()
        assert set(short.sessions._sessions) == {gone.id, stays.id}
        [info] = [each for each in short.sessions.sessions if each.id == gone.id]
        assert (info.name, info.alive) == ("gone", False)
        assert (await short.sessions.survey()).active == {ref.blob}
        assert short.row_ids() == {stays.id}
        assert lost.blob not in (await short.sessions.survey()).active

    async def test_of_the_metadata_takes_no_new_sessions_at_first(
        self, meta, gateway, make_gateway, until
    ):
        await meta.restart(serve=False)
        other = make_gateway(meta, "other")
        await other.channel.connect()
        other.session.start()
        await until(lambda: "not ready" in other.session._why)
        ref = gateway.begin()
        gateway.session.garbage()
        assert (await meta.sessions.survey()).active == {ref.blob}  # those that were there go on
        await gateway.own(ref)
        assert meta.notes.told == []
        meta.sessions.serve(meta.notes)
        await until(lambda: meta.notes.told == [("garbage",)])
        await other.session.open()

    async def test_of_a_gateway(self, make_meta, make_gateway, until):
        meta = await make_meta(60.0, 0.3)
        first = await make_gateway(meta).open()
        ref = first.begin()
        fence = first.session.fence
        first.freeze()
        await first.channel.close()
        second = await make_gateway(meta).open()
        assert second.id != first.id
        assert (await meta.sessions.survey()).active == set()
        assert meta.row_ids() == {second.id}
        second.kv.fence = lambda writes: fence  # whoever still commits for the first
        await refused(second.own(ref), "fenced")

    async def test_an_opening_that_nobody_waits_for(self, make_meta, make_gateway, until):
        """The row may be there. Nobody uses it, and it goes."""
        meta = await make_meta(60.0, 0.3)
        gateway = make_gateway(meta)
        await gateway.channel.connect()
        meta.engine.gate.clear()
        begun = meta.engine.begun
        gateway.session.start()
        await until(lambda: meta.engine.begun > begun)
        gateway.freeze()
        await gateway.channel.close()
        await until(lambda: not meta.server._connections)
        meta.engine.gate.set()
        await meta.sessions.survey()
        assert meta.row_ids() == set()
        assert meta.sessions.sessions == []

    async def test_an_opening_that_fails(self, meta, make_gateway, until):
        """Nobody knows whether its row is there; it is ended before anybody waits for it."""
        gateway = make_gateway(meta)
        await gateway.channel.connect()
        meta.engine.error = OSError(28, "full")
        gateway.session.start()
        await until(lambda: meta.sessions.sessions)
        [tried] = meta.sessions._sessions.values()
        await until(lambda: tried.ending is not None)
        meta.engine.error = None
        await gateway.session.open()
        assert (await meta.sessions.survey()) == (set(), set())
        assert meta.row_ids() == {gateway.id}

    async def test_the_fence_is_what_the_engine_looks_at(self, meta, gateway):
        """Not what this process remembers of sessions."""
        ref = gateway.begin()
        meta.sessions._sessions.clear()
        await gateway.own(ref)
        await meta.kv.commit([Present(keys.session(gateway.id))], [])
        await meta.kv.commit([], [(keys.session(gateway.id), None)])
        await refused(gateway.own(ref), "fenced")
