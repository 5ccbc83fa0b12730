"""kill -9 while lifecycle removes and events are sent: nothing else goes, and everybody is told."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectio.testing.receiver import receiving

TARGET = "arn:aws:sns:us-east-1:000000000000:hook"
OLD, KEPT = 300, 40
SECONDS_MAX = 120.0


@pytest.fixture
def receiver():
    with receiving() as each:
        yield each


def rules(store, **more):
    """Set the bucket's lifecycle: what is under old/ goes after a day."""
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, **more}
    store.s3.put_bucket_lifecycle_configuration(
        Bucket=store.bucket, LifecycleConfiguration={"Rules": [rule]}
    )


def tell(store):
    wanted = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"]
    store.s3.put_bucket_notification_configuration(
        Bucket=store.bucket,
        NotificationConfiguration={
            "TopicConfigurations": [{"Id": "n", "TopicArn": TARGET, "Events": wanted}]
        },
    )


def put_all(store, names):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, name.encode()), names))


@pytest.fixture
def store(open_store, receiver):
    return open_store(
        settings={
            "store.lifecycle_day_seconds": "1",
            "sinks.webhook.target": f"[{{arn = {TARGET!r}, url = {receiver.url!r}}}]",
        }
    )


@pytest.mark.slow
def test_killed_again_and_again(store, receiver, rng, eventually):
    tell(store)
    old = [f"old/{number:03}" for number in range(OLD)]
    kept = [f"kept/{number:03}" for number in range(KEPT)]
    put_all(store, old + kept)
    with receiver.lock:
        receiver.answers = [rng.choice((0, 503, *[200] * 10)) for _ in range(120)]
    rules(store, Expiration={"Days": 1})
    deadline, kills = time.monotonic() + SECONDS_MAX, 0
    while store.keys("old/") or kills < 3:
        assert time.monotonic() < deadline, f"{len(store.keys('old/'))} are left"
        time.sleep(rng.uniform(0.05, 0.4))
        store.server.kill()
        store.server.start()
        kills += 1
    assert store.keys() == kept
    assert [store.get(name) for name in kept] == [name.encode() for name in kept]
    eventually(lambda: set(receiver.keys("LifecycleExpiration:")) == set(old), 60)
    eventually(lambda: set(receiver.keys("ObjectCreated:Put")) == {*old, *kept}, 60)
    assert not receiver.keys("ObjectRemoved:")
    told = {each["responseElements"]["x-amz-id-2"] for each in receiver.records}
    assert len(told) == 2 * OLD + KEPT  # sent again with the same id, if at all
    store.wait_collected()


def test_removed_and_told(store, receiver, eventually):
    """Of versions: a marker on top, then the version, then the marker."""
    tell(store)
    store.s3.put_bucket_versioning(
        Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    version = store.put("old/a", b"1")["VersionId"]
    store.put("kept", b"2")
    rules(store, Expiration={"Days": 1}, NoncurrentVersionExpiration={"NoncurrentDays": 1})
    eventually(lambda: len(receiver.keys("LifecycleExpiration:")) == 3)
    told = [
        (each["eventName"], each["s3"]["object"]["versionId"])
        for each in receiver.records
        if each["eventName"].startswith("LifecycleExpiration:")
    ]
    marker = told[0][1]
    assert told == [
        ("LifecycleExpiration:DeleteMarkerCreated", marker),
        ("LifecycleExpiration:Delete", version),
        ("LifecycleExpiration:Delete", marker),
    ]
    page = store.s3.list_object_versions(Bucket=store.bucket)
    assert [each["Key"] for each in page["Versions"]] == ["kept"]
    assert "DeleteMarkers" not in page
    sequencers = [
        each["s3"]["object"]["sequencer"]
        for each in receiver.records
        if each["s3"]["object"]["key"] == "old/a"
    ]
    assert sequencers == sorted(sequencers)
    assert len(set(sequencers)) == 4
