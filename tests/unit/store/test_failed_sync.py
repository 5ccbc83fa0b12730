"""A failed fdatasync: the kernel keeps the pages, marks them clean, and tells once. Until they are
evicted they read as if they had been written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from objectio.osd import device as devices


class Kernel:
    """Of one log file: what was written since the last good sync, and what the disk has there."""

    def __init__(self, path, monkeypatch):
        self.file = devices.log_path(path)
        self.dirty, self.lost = [], []
        self.fail = False
        self.dropped = 0
        pwritev, sync = os.pwritev, os.fdatasync
        fadvise = os.posix_fadvise

        def mine(fd):
            return os.path.samefile(f"/proc/self/fd/{fd}", self.file)

        def write(fd, buffers, offset, flags=0):
            if not mine(fd):
                return pwritev(fd, buffers, offset, flags)
            size = sum(memoryview(each).nbytes for each in buffers)
            self.dirty.append((offset, os.pread(fd, size, offset).ljust(size, b"\0")))
            written = pwritev(fd, buffers, offset, 0)
            if flags & os.RWF_DSYNC:
                flush(fd)
            return written

        def flush(fd):
            if not mine(fd):
                return sync(fd)
            if self.fail:
                self.lost += self.dirty
                self.dirty.clear()
                raise OSError(errno.EIO, "Input/output error")
            self.dirty.clear()
            return None

        def advise(fd, offset, length, advice):
            if mine(fd) and advice == os.POSIX_FADV_DONTNEED:
                self.evict()
            return fadvise(fd, offset, length, advice)

        monkeypatch.setattr(os, "pwritev", write)
        monkeypatch.setattr(os, "fdatasync", flush)
        monkeypatch.setattr(os, "posix_fadvise", advise)
        self._pwritev = pwritev

    def evict(self):
        """Memory is needed elsewhere: what is clean goes, and is read from the disk again."""
        fd = os.open(self.file, os.O_RDWR)
        try:
            for offset, before in reversed(self.lost):
                self._pwritev(fd, [before], offset)
        finally:
            os.close(fd)
        self.dropped += len(self.lost)
        self.lost.clear()


async def test_what_a_failed_sync_lost_is_repaired(lab, monkeypatch):
    kit = await lab.open()
    await lab.fill(each=2)
    osd = 3
    kernel = Kernel(Path(kit.slots[osd].path), monkeypatch)
    kernel.fail = True
    for number in range(5):
        await kit.put(b"late%d" % number, b"x" * 9000)
    assert lab.repair_rows, "the write says what the device did not promise"
    kernel.fail = False
    await kit.devices.look()  # it takes writes again: opened anew
    assert kit.devices.stores[osd].failure is None
    await lab.repaired()
    assert not lab.repair_rows
    kernel.evict()
    report = await lab.scrub()
    assert report.findings == 0, "the rows went on the word of the page cache"
