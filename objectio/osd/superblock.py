"""The superblock of a device: finding it, judging it, writing it."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Final

from objectio.errors import ConfigError, DeviceFailed
from objectio.osd import device as devices
from objectio.osd.blank import is_blank
from objectio.osd.device import Device
from objectio.osd.format import (
    SUPERBLOCK_BYTES,
    SUPERBLOCK_COPIES,
    SUPERBLOCK_MAGIC,
    Superblock,
)

_log: Final = logging.getLogger("objectio.osd")
_SPAN_BYTES: Final = SUPERBLOCK_BYTES * len(SUPERBLOCK_COPIES)


def look(path: Path) -> Superblock | None:
    """The superblock at a path, without opening the device; None if it is absent or blank. Raises
    `ConfigError` for what is not a device, or of a newer format, and `DeviceFailed`."""
    try:
        if is_blank(path):
            return None
        with devices.log_path(path).open("rb") as file:
            raw = file.read(_SPAN_BYTES)
    except FileNotFoundError:
        raw = b""
    except OSError as error:
        raise DeviceFailed(f"cannot read {path}: {error.strerror}") from error
    return _newest(path, raw)


def read_superblock(device: Device) -> Superblock:
    """Raises `ConfigError`."""
    raw = device.pread(_SPAN_BYTES, 0)
    found = _newest(device.path, raw)
    if len(_copies(device.path, raw)) < len(SUPERBLOCK_COPIES):
        _log.warning("one copy of the superblock of %s is damaged; it is written anew", device.path)
    return found


def write_superblock(device: Device, superblock: Superblock) -> None:
    """One copy after the other, so that a power cut leaves one of them whole."""
    for offset in SUPERBLOCK_COPIES:
        device.pwritev([superblock.pack()], offset)
        device.sync()


def check_cluster(device: Device, superblock: Superblock, cluster_id: str) -> None:
    """Raises `ConfigError`."""
    wanted = uuid.UUID(cluster_id)
    if superblock.cluster_id != wanted.bytes:
        raise ConfigError(
            f"{device.path} belongs to another cluster "
            f"({uuid.UUID(bytes=superblock.cluster_id)}, this one is {wanted}); it is left alone"
        )


def fit(device: Device, superblock: Superblock) -> Superblock:
    """The superblock as the size of the device allows. A disk or an image that has grown is used up
    to its new end. Raises `ConfigError` for one that was cut."""
    size, stated = device.size_bytes, superblock.size_bytes
    if not size or not stated or size == stated:
        return superblock
    if size < stated:
        raise ConfigError(
            f"{device.path} has {size} bytes, but {stated} when it was last used: it was cut, and "
            "what was behind that is lost. Give it back its size, or clear it to have it refilled"
        )
    _log.info("%s has grown from %d to %d bytes; they are used", device.path, stated, size)
    return superblock._replace(size_bytes=size)


def _newest(path: Path, raw: bytes) -> Superblock:
    if found := _copies(path, raw):
        return max(found, key=lambda copy: copy.opens)
    if any(raw.startswith(SUPERBLOCK_MAGIC, offset) for offset in SUPERBLOCK_COPIES):
        raise ConfigError(
            f"{path} is a device of ObjectIO whose superblock is damaged in both copies: clear it "
            "to have it refilled from the other devices"
        )
    raise ConfigError(f"{path} holds something that is not a device of ObjectIO")


def _copies(path: Path, raw: bytes) -> list[Superblock]:
    try:
        found = [
            Superblock.unpack(raw[offset : offset + SUPERBLOCK_BYTES])
            for offset in SUPERBLOCK_COPIES
        ]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from error
    return [copy for copy in found if copy is not None]
