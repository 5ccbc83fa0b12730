"""Small reads of one turn travel as one call, and each gets its own answer."""

from __future__ import annotations

import asyncio

import pytest

from objectio.errors import ChecksumMismatch, DeviceFailed, NotFound
from objectio.rpc.priority import background
from objectio.rpc.shards import RemoteShards
from objectio.rpc.shards_messages import READS_MAX, SMALL_BYTES_MAX, Method
from objectio.rpc.shards_service import ShardService
from objectio.testing.shardstore import MemoryShardStoreFactory
from objectio.testing.shardstore_calls import CLUSTER, noise, shard_key, submit


class Busy:
    """A store that can answer some keys only by waiting, and counts how it is asked."""

    def __init__(self, inner):
        self._inner = inner
        self.waits_for = set()
        self.fails_for = {}
        self.waited = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def read_now(self, key, offset=0, length=None):
        if key in self.fails_for:
            raise self.fails_for[key]
        return None if key in self.waits_for else self._inner.read_now(key, offset, length)

    async def read(self, key, offset=0, length=None):
        self.waited += 1
        if key in self.fails_for:
            raise self.fails_for[key]
        return await self._inner.read(key, offset, length)


@pytest.fixture
async def devices(make_server, make_channel, tmp_path, socket_dir):
    """Two remote OSDs with shards of 1,000 bytes, their local sides, and the methods called."""
    factory, local = MemoryShardStoreFactory(), {}
    for osd in (1, 2):
        path = str(tmp_path / str(osd))
        factory.prepare(path, cluster_id=CLUSTER)
        local[osd] = Busy(await factory.open(path, cluster_id=CLUSTER))
        for number in range(100):
            await submit(local[osd], shard_key(number), noise(1000, 100 * osd + number))
    server = make_server()
    ShardService(server, local)
    called = []
    for method, handler in list(server.dispatcher.handlers.items()):

        def counted(call, handler=handler, method=method):
            called.append(Method(method))
            return handler(call)

        server.dispatcher.handlers[method] = counted
    await server.listen(f"unix:{socket_dir}/s")
    channel = make_channel(f"unix:{socket_dir}/s")
    await channel.connect()
    shards = RemoteShards(channel, status_seconds=60)
    remote = {osd: await shards.open(osd) for osd in local}
    called.clear()
    yield remote, local, called
    await shards.close()


def wanted(osd, number, begin=0, end=1000):
    return noise(1000, 100 * osd + number)[begin:end]


async def test_many_at_once_are_one_call(devices):
    remote, _, called = devices
    found = await asyncio.gather(
        *(remote[osd].read(shard_key(number), number, 500) for osd in remote for number in range(9))
    )
    assert [bytes(each) for each in found] == [
        wanted(osd, number, number, number + 500) for osd in remote for number in range(9)
    ]
    assert called == [Method.READ_MANY]


async def test_more_than_go_into_one_call(devices):
    remote, _, called = devices
    found = await asyncio.gather(
        *(remote[osd].read(shard_key(n), 0, 1000) for osd in remote for n in range(100))
    )
    assert [bytes(each) for each in found] == [wanted(osd, n) for osd in remote for n in range(100)]
    assert called == [Method.READ_MANY] * -(-200 // READS_MAX)


async def test_one_alone_and_large_ones_are_calls_of_their_own(devices):
    remote, _, called = devices
    assert bytes(await remote[1].read(shard_key(3), 0, 1000)) == wanted(1, 3)
    found = await asyncio.gather(
        remote[1].read(shard_key(1)), remote[1].read(shard_key(2), 0, SMALL_BYTES_MAX + 1)
    )
    assert [bytes(each) for each in found] == [wanted(1, 1), wanted(1, 2)]
    assert called == [Method.READ] * 3


async def test_each_gets_its_own_error_and_what_must_wait_is_waited_for(devices):
    remote, local, called = devices
    local[1].waits_for = {shard_key(2), shard_key(3)}
    local[2].fails_for = {shard_key(4): ChecksumMismatch("damaged", key=b"4")}
    found = await asyncio.gather(
        remote[1].read(shard_key(1), 0, 1000),
        remote[1].read(shard_key(2), 0, 1000),
        remote[1].read(shard_key(3), 0, 1000),
        remote[2].read(shard_key(4), 0, 1000),
        remote[2].read(shard_key(999), 0, 1000),
        remote[2].read(shard_key(5), 0, 1000),
        return_exceptions=True,
    )
    assert bytes(found[0]) == wanted(1, 1)
    assert bytes(found[1]) == wanted(1, 2)
    assert bytes(found[2]) == wanted(1, 3)
    assert isinstance(found[3], ChecksumMismatch)
    assert isinstance(found[4], NotFound)
    assert bytes(found[5]) == wanted(2, 5)
    assert local[1].waited == 2
    assert called[0] is Method.READ_MANY
    assert set(called[1:]) == {Method.READ}


async def test_a_device_that_is_gone_does_not_disturb_the_others(devices):
    remote, local, _ = devices
    del local[1]
    found = await asyncio.gather(
        remote[1].read(shard_key(1), 0, 1000),
        remote[2].read(shard_key(1), 0, 1000),
        return_exceptions=True,
    )
    assert isinstance(found[0], DeviceFailed)
    assert found[0].fields["gone"] is True
    assert bytes(found[1]) == wanted(2, 1)


async def test_who_gave_up_is_not_asked_for(devices):
    remote, _, called = devices
    tasks = [asyncio.create_task(remote[1].read(shard_key(n), 0, 1000)) for n in range(3)]
    await asyncio.sleep(0)  # they have begun, and nothing was sent
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [bytes(each) for each in found[1:]] == [wanted(1, 1), wanted(1, 2)]


async def test_what_can_wait_does_not_travel_with_what_cannot(devices):
    remote, _, called = devices
    tasks = [asyncio.create_task(remote[1].read(shard_key(n), 0, 1000)) for n in range(2)]
    with background():
        tasks += [asyncio.create_task(remote[1].read(shard_key(n), 0, 1000)) for n in range(2)]
    found = await asyncio.gather(*tasks)
    assert [bytes(each) for each in found] == [wanted(1, n % 2) for n in range(4)]
    assert called == [Method.READ_MANY] * 2


async def test_a_lost_connection_fails_all_of_them(devices, make_channel):
    remote, _, _ = devices
    tasks = [asyncio.create_task(remote[1].read(shard_key(n), 0, 1000)) for n in range(3)]
    await asyncio.sleep(0)
    remote[1].connection.abort(ConnectionError("cut by the test"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [DeviceFailed] * 3
