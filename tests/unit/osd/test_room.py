"""What a file system has left: looked at anew while it is little."""

from __future__ import annotations

import pytest

from objectio.limits import GIB, MIB
from objectio.osd.device import Device, create


@pytest.mark.parametrize(("free", "looks"), [(100 * MIB, 5), (100 * GIB, 1)])
def test_little_room_is_looked_at_each_time(tmp_path, monkeypatch, free, looks):
    create(tmp_path / "disk", None)
    device = Device(tmp_path / "disk")
    looked = []
    monkeypatch.setattr(Device, "free_bytes_now", lambda self: looked.append(1) or free)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    assert [device.free_bytes() for _ in range(5)] == [free] * 5
    assert len(looked) == looks
    device.close()
