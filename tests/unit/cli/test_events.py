"""Events as lines: what a stream says, in words."""

from __future__ import annotations

import io
import os

import pytest

from objectio.cli.events import event_text, read_events, while_read

DISK = {"osd": 3, "state": "up", "reason": "", "membership": "in", "path": "disks/3"}
FAILED = {**DISK, "state": "failed", "reason": "it is\x1b[2J gone"}
NODE = {"node": "osd-1", "role": "osd", "address": "h:1", "alive": True}
SCRUB = {"running": False, "progress": 0.0, "last": None}
DONE = dict.fromkeys(("missing", "corrupt", "stale", "misplaced", "inconsistent"), 0)
DONE |= {"blobs": 12, "unrepairable": 0}
REPAIR = {"waiting": {}, "blocked": 0, "refilling": [], "repaired_shards": 7, "bytes_left": 0}
MOVING = {"groups_moving": 0, "groups_waiting": 0, "bytes_left": 0, "degraded_spread": []}
BAD = {"severity": "critical", "what": "OSD 3 is down"}


def test_a_stream_is_read():
    lines = [
        b"retry: 1000\n",
        b"\n",
        b": nothing\n",
        b"\n",
        b"id: a-1\n",
        b"event: map\n",
        b'data: {"type":"map",\r\n',
        b'data:"epoch":2}\n',
        b"\n",
        b"\n",
        b'data: {"type":"not known yet"}\n',
        b"\n",
        b'data: {"type":"scrub"}\n',
        b"\n",
        b'data: {"type":"map"}\n',  # cut off
    ]
    assert list(read_events(lines)) == [{"type": "map", "epoch": 2}, {"type": "scrub"}]


def test_it_ends_with_who_reads_it():
    reading, writing = os.pipe()
    lines = [b": nothing\n", b"\n", b": nothing\n"]
    with os.fdopen(writing, "w") as out:
        assert list(while_read(lines, out)) == lines
        followed = while_read(lines, out)
        next(followed)
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            next(followed)
    assert list(while_read(lines, io.StringIO())) == lines


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            {
                "type": "state",
                "cluster": {"state": "serving", "reason": "", "epoch": 4, "nodes": [NODE]},
                "disks": [DISK, FAILED],
                "findings": [BAD],
                "unknown": ["scrub"],
            },
            "serving, epoch 4, 1 of 1 node alive, 1 of 2 disks up, 1 finding, unknown: scrub",
        ),
        (
            {
                "type": "state",
                "cluster": None,
                "disks": None,
                "findings": None,
                "unknown": ["disks"],
            },
            "unknown: disks",
        ),
        (
            {"type": "cluster", "state": "waiting", "reason": "5 of 6 OSDs", "pool": ""},
            "waiting: 5 of 6 OSDs",
        ),
        ({"type": "map", "epoch": 5, "epoch_before": 4}, "epoch 5, 4 before"),
        (
            {"type": "node", "node": "osd-1", "before": None, "now": NODE},
            "osd-1 (osd) came, and is",
        ),
        ({"type": "node", "node": "osd-1", "before": NODE, "now": None}, "osd-1 (osd) is gone"),
        (
            {"type": "node", "node": "osd-1", "before": NODE, "now": {**NODE, "alive": False}},
            "osd-1 (osd) is NOT HEARD OF",
        ),
        (
            {"type": "node", "node": "osd-1", "before": NODE, "now": {**NODE, "address": "h:2"}},
            "osd-1 (osd) is at h:2, at h:1 before",
        ),
        (
            {
                "type": "disk",
                "osd": 3,
                "changed": ["state", "reason"],
                "before": DISK,
                "now": FAILED,
            },
            "OSD 3: state failed, up before; reason it is\\x1b[2J gone, - before",
        ),
        (
            {"type": "disk", "osd": 3, "changed": [], "before": None, "now": DISK},
            "OSD 3 came: up, in, disks/3",
        ),
        ({"type": "disk", "osd": 3, "changed": [], "before": DISK, "now": None}, "OSD 3 is gone"),
        ({"type": "repair", "now": REPAIR}, "nothing waits, 7 shards made anew"),
        (
            {
                "type": "repair",
                "now": {
                    **REPAIR,
                    "waiting": {"0": 1, "1": 2},
                    "blocked": 1,
                    "refilling": [3],
                    "bytes_left": 1536,
                },
            },
            "3 blobs waiting, 1 of them blocked, refilling OSD 3, 1.5 KiB left",
        ),
        ({"type": "scrub", "now": SCRUB}, "not running"),
        (
            {"type": "scrub", "now": {**SCRUB, "running": True, "progress": 0.5}},
            "running, 50% done",
        ),
        ({"type": "scrub", "now": {**SCRUB, "last": DONE}}, "finished: 12 blobs, nothing wrong"),
        (
            {"type": "scrub", "now": {**SCRUB, "last": {**DONE, "corrupt": 2}}},
            "finished: 12 blobs, 2 corrupt",
        ),
        ({"type": "rebalance", "now": MOVING}, "nothing moves"),
        (
            {"type": "rebalance", "now": {**MOVING, "groups_waiting": 2, "bytes_left": 1024}},
            "2 groups to move, 1.0 KiB left",
        ),
        (
            {"type": "findings", "findings": [BAD], "new": [BAD], "gone": [{"what": "old"}]},
            "CRITICAL OSD 3 is down; over: old",
        ),
        ({"type": "unknown", "unknown": []}, "all is known again"),
    ],
)
def test_each_type_is_a_line(event, says):
    text = event_text({"id": "a-1", "time_ms": 1_790_000_000_000, **event})
    assert says in text
    assert f"  {event['type']} " in text
    assert text.isprintable()
