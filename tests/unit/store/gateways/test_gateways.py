"""What one gateway uses, while another deletes it and upkeep moves, collects and sweeps."""

from __future__ import annotations

import asyncio
import random

import pytest

from objectio.abc.objects import CompletePart, Conditions, ObjectAttributes
from objectio.abc.shardstore import ShardCoordinates, ShardWrite
from objectio.errors import NotFound, PreconditionFailed, Unavailable
from objectio.meta import keys
from objectio.model.stripe import BlobId, ShardKey
from objectio.store.answers import answered, submitted
from objectio.testing.objects import BytesPayload

LARGE = 45_000
"""Six stripes."""


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


# Reading.


async def test_what_one_gateway_reads_another_deletes(make_cluster, read):
    cluster = await make_cluster(2)
    one, two = cluster.gateways
    await two.put(b"key", noise(LARGE))
    reader = await one.open_object(b"key")
    stream = reader.stream(0, LARGE)
    begin = bytes(await anext(stream))
    await two.delete(b"key")
    for _ in range(3):
        await cluster.maintenance.collector.collect()
        await cluster.sweep()
    rest = b"".join([bytes(each) async for each in stream])
    assert begin + rest == noise(LARGE)
    assert cluster.held()
    reader.close()
    await cluster.check_empty()


async def test_a_gateway_that_says_nothing_is_waited_for_until_it_is_fenced(make_cluster, read):
    cluster = await make_cluster(3)
    one, two, _ = cluster.gateways
    await two.put(b"key", noise(LARGE))
    reader = await one.open_object(b"key")
    await cluster.settled()
    one.mute()
    await two.delete(b"key")
    collecting = asyncio.create_task(cluster.maintenance.collector.collect())
    before = cluster.surveys
    await two.put(b"other", noise(100))  # the others are not held up
    await cluster.until(lambda: cluster.surveys > before)
    assert await two.get(b"other") == noise(100)
    assert await read(reader) == noise(LARGE), "it was deleted while it may have been read"
    assert not collecting.done()
    await cluster.fence(one)
    await collecting
    await cluster.until(lambda: not any(row.startswith(keys.GARBAGE) for row in cluster.rows()))
    one.unmute()
    reader.close()
    await one.open()
    await one.delete(b"other")
    await cluster.check_empty()


# Moves.


@pytest.mark.parametrize("end", ["put", "break off"])
async def test_a_slow_writer_whose_group_moves_away(make_cluster, slow_payload, end):
    cluster = await make_cluster(2, disks=8)
    one, two = cluster.gateways
    payload = slow_payload(noise(LARGE))
    writing = asyncio.create_task(one.put(b"slow", payload=payload))
    await payload.stuck.wait()
    (blob,) = one.in_use.active
    former = cluster.pools.current.members(blob)
    rebalancer = cluster.maintenance.rebalancer
    await rebalancer.drain(former[0])
    await cluster.until(
        lambda: [each.lingering for each in rebalancer._moving.values()] == [{blob}]
    )
    await cluster.until(lambda: not any(each.pending for each in rebalancer._moving.values()))
    asked = cluster.surveys
    await cluster.until(lambda: cluster.surveys > asked + 3)
    assert cluster.pools.current.former(blob) == former, "it did not wait for the writer"
    assert two.pools.current.members(blob) != former, "a move began that not all knew of"
    if end == "put":
        payload.gate.set()
        await writing
    else:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    await cluster.settled()
    await cluster.sweep()
    assert not cluster.held().get(former[0])
    if end == "put":
        for gateway in cluster.gateways:
            assert await gateway.get(b"slow") == noise(LARGE)
        (ref,) = cluster.refs()
        for position, osd in enumerate(cluster.pools.current.members(ref.blob)):
            there = {key.stripe for key in cluster.shards()[osd] if key.position == position}
            assert there == set(range(6))
        await two.delete(b"slow")
    await cluster.check_empty()


async def test_a_reader_of_what_moves_away_under_it(make_cluster):
    cluster = await make_cluster(2, disks=8)
    one, two = cluster.gateways
    await two.put(b"key", noise(LARGE))
    (ref,) = cluster.refs()
    reader = await one.open_object(b"key")
    stream = reader.stream(0, LARGE)
    got = bytes(await anext(stream))
    leaving = cluster.pools.current.members(ref.blob)[0]
    await cluster.maintenance.rebalancer.drain(leaving)
    await cluster.until(lambda: cluster.maintenance.rebalancer.membership(leaving) == "out")
    await cluster.sweep()
    got += b"".join([bytes(each) async for each in stream])
    assert got == noise(LARGE)
    reader.close()
    await cluster.settled()
    assert not cluster.held().get(leaving)
    assert not cluster.damage, "it looked for shards where they are not any more"
    await two.delete(b"key")
    await cluster.check_empty()


async def test_what_is_where_it_should_not_be_stays_while_it_is_read(make_cluster):
    cluster = await make_cluster(2, disks=8)
    one, two = cluster.gateways
    await two.put(b"key", noise(5_000))
    (ref,) = cluster.refs()
    members = cluster.pools.current.members(ref.blob)
    wrong = next(osd for osd in range(8) if osd not in members)
    key = ShardKey(BlobId(ref.blob), 0, 3)
    home, elsewhere = (cluster.devices.stores[osd] for osd in (members[3], wrong))
    write = ShardWrite(key, (await home.read(key),), ShardCoordinates("rs", 4, 2, 5_000))
    assert await answered(submitted(lambda done: elsewhere.submit(write, done))) is None
    reader = await one.open_object(b"key")
    await cluster.maintenance.collector.sweep(wrong)
    assert await elsewhere.stat([key]) != [None]
    one.mute()
    reader.close()
    sweeping = asyncio.create_task(cluster.maintenance.collector.sweep(wrong))
    asked = cluster.surveys
    await cluster.until(lambda: cluster.surveys > asked)
    assert await elsewhere.stat([key]) != [None], "somebody may still read there"
    one.unmute()
    await sweeping
    assert await elsewhere.stat([key]) == [None]
    assert await one.get(b"key") == noise(5_000)


# Fences.


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("what", ["object", "part"])
async def test_a_gateway_that_is_fenced_in_the_middle_of_a_write(
    make_cluster, slow_payload, what, again
):
    """Also if it has another session by the time that it commits: nobody knew of the blob in between,
    and its shards are gone."""
    cluster = await make_cluster(2)
    one, two = cluster.gateways
    payload = slow_payload(noise(LARGE))
    if what == "object":
        writing = asyncio.create_task(one.put(b"key", payload=payload))
    else:
        upload = await one.store.create_upload("bucket", b"key", ObjectAttributes(), owner="me")
        put = one.store.put_part("bucket", b"key", upload.upload_id, 1, payload)
        writing = asyncio.create_task(put)
    await payload.stuck.wait()
    one.mute()
    await cluster.fence(one)
    await cluster.sweep()
    one.unmute()
    if again:
        await one.open()
    payload.gate.set()
    with pytest.raises(Unavailable) as caught:
        await writing
    assert caught.value.fields["reason"] == "fenced"
    with pytest.raises(NotFound):
        await two.get(b"key")
    assert not cluster.refs()
    if not again:
        with pytest.raises(Unavailable):
            await one.put(b"key", noise(10))
        await one.open()
    await one.put(b"key", noise(LARGE, 1))
    assert await two.get(b"key") == noise(LARGE, 1)
    if what == "part":
        await two.store.abort_upload("bucket", b"key", upload.upload_id)
    await two.delete(b"key")
    await cluster.check_empty()


# Uploads.


async def test_what_a_gateway_that_died_left_of_an_ended_upload(make_cluster):
    cluster = await make_cluster(2)
    one, two = cluster.gateways
    upload = await one.store.create_upload("bucket", b"key", ObjectAttributes(), owner="me")
    parts = []
    for number in (1, 2):
        info = await one.store.put_part(
            "bucket", b"key", upload.upload_id, number, BytesPayload(noise(300, number))
        )
        parts.append(CompletePart(number, info.etag))

    async def dies(*_):
        raise OSError("the process ends here")

    one.store._uploads._clean = dies
    await one.store.complete_upload("bucket", b"key", upload.upload_id, parts[:1])
    await asyncio.gather(*one.store._uploads._cleaning)
    ended = cluster.maintenance.ended
    seen = await ended.look(frozenset())
    assert len(seen) == 1
    assert any(row.startswith(keys.ENDED) for row in cluster.rows()), "it may have been at work"
    await ended.look(seen)
    assert not any(row.startswith(keys.ENDED) for row in cluster.rows())
    assert await two.get(b"key") == noise(300, 1)
    await two.delete(b"key")
    await cluster.check_empty()


# Races.


async def test_one_of_many_creates_a_key(make_cluster):
    cluster = await make_cluster(3)
    only_new = Conditions(if_none_match=["*"])
    for turn in range(5):
        key = b"%d" % turn
        puts = [
            each.put(key, noise(100 + number), conditions=only_new)
            for number, each in enumerate(cluster.gateways)
        ]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        lost = [each for each in answers if isinstance(each, PreconditionFailed)]
        assert len(lost) == 2, answers
        (won,) = [each for each in answers if each not in lost]
        for gateway in cluster.gateways:
            assert await gateway.get(key) == noise(won.size)
        await cluster.gateways[turn % 3].delete(key)
    await cluster.check_empty()
