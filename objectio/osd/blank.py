"""What is on a disk before it is prepared: nothing, or something that must not be written over.

A disk counts as blank if its first and last mebibytes are zeroes, and so is where the first log
segment would begin. Partition tables, volume managers and file systems all keep something there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from objectio.limits import KIB, MIB
from objectio.osd.device import LOG_NAME

_HEAD_BYTES: Final = MIB + 4 * KIB
_TAIL_BYTES: Final = MIB


class _Signature(NamedTuple):
    """Negative offsets count from the end. `offsets`: any of them."""

    what: str
    magic: bytes
    offsets: tuple[int, ...]


_SIGNATURES: Final = (
    _Signature("a device of ObjectIO", b"OBJECTIO", (0, 4096)),
    _Signature("the log of a device of ObjectIO without its superblock", b"OIR1", (MIB,)),
    _Signature("an xfs file system", b"XFSB", (0,)),
    _Signature("an ext2, ext3 or ext4 file system", b"\x53\xef", (1080,)),
    _Signature("a btrfs file system", b"_BHRfS_M", (65_600,)),
    _Signature("an f2fs file system", b"\x10\x20\xf5\xf2", (1024,)),
    _Signature("an NTFS file system", b"NTFS    ", (3,)),
    _Signature("a FAT file system", b"FAT", (54, 82)),
    _Signature("a member of a ZFS pool", b"\x0c\xb1\xba\x00\x00\x00\x00\x00", ()),
    _Signature("a Ceph OSD (BlueStore)", b"bluestore block device", (0,)),
    _Signature("an LVM physical volume", b"LABELONE", (0, 512, 1024, 1536)),
    _Signature("a LUKS volume", b"LUKS\xba\xbe", (0,)),
    _Signature("a member of a RAID array (md)", b"\xfc\x4e\x2b\xa9", (0, 4096, -8192, -12_288)),
    _Signature("swap space", b"SWAPSPACE2", (4086,)),
    _Signature("a partition table (GPT)", b"EFI PART", (512, 4096, -512, -4096)),
    _Signature("a partition table (MBR)", b"\x55\xaa", (510,)),
)
"""In the order in which they are looked for; one without offsets may be at any kibibyte."""


def is_blank(path: Path) -> bool:
    """Whether a device may be prepared there."""
    return contents(path) is None


def contents(path: Path) -> str | None:
    """None if nothing is there: no path, an empty directory, or a file or disk of zeroes where
    something would be. An empty log alone in its directory is what a crash leaves of preparing.
    Else what it is, as far as that is known."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        inside = list(path.iterdir())
        if not inside or (inside == [path / LOG_NAME] and inside[0].stat().st_size == 0):
            return None
        if path / LOG_NAME in inside:
            return contents(path / LOG_NAME) or "files"
        return "files"
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        if _any(head) and (known := _known(head, b"")):
            return known
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read(_TAIL_BYTES)
    if _any(head) or _any(tail):
        return _known(head, tail) or "data of a kind that is not known"
    return None


def _known(head: bytes, tail: bytes) -> str | None:
    for signature in _SIGNATURES:
        if not signature.offsets and any(
            head.startswith(signature.magic, at) for at in range(0, len(head), KIB)
        ):
            return signature.what
        for at in signature.offsets:
            if at >= 0 and head.startswith(signature.magic, at):
                return signature.what
            begin = at + len(tail)
            if at < 0 <= begin and tail.startswith(signature.magic, begin):
                return signature.what
    return None


def _any(raw: bytes) -> bool:
    return raw.count(0) != len(raw)


def how_to_clear(path: Path) -> str:
    """The commands that make a disk blank."""
    if path.is_dir():
        return "give it an empty directory"
    with path.open("rb") as file:
        last = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
    return (
        "if nothing of that is needed any more, clear it with "
        f"`wipefs -a {path}; dd if=/dev/zero of={path} bs=1M count=2 conv=notrunc; "
        f"dd if=/dev/zero of={path} bs=64K count=16 conv=notrunc oflag=seek_bytes seek={last}`"
    )
