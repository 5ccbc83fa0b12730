"""What is asked and ordered of the store's administration from other processes.

Answers are the values of `objectio.abc.admin`, as MessagePack maps of their fields.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
)
from objectio.rpc.messages import Unpacker


class Method(enum.IntEnum):
    DISKS = 0x0400
    REPLACE = 0x0401
    DRAIN = 0x0402
    UNDRAIN = 0x0403
    REMOVE = 0x0404
    REPAIR = 0x0405
    SCRUB = 0x0406
    START_SCRUB = 0x0407
    REBALANCE = 0x0408
    JOURNAL = 0x0409
    DOCTOR = 0x040A


class Target(msgspec.Struct, array_like=True, frozen=True, gc=False):
    osd: int


unpack_target: Final = Unpacker(Target)
unpack_disks: Final = Unpacker(list[DiskStatus])
unpack_disk: Final = Unpacker(DiskStatus)
unpack_repair: Final = Unpacker(RepairStatus)
unpack_scrub: Final = Unpacker(ScrubStatus)
unpack_rebalance: Final = Unpacker(RebalanceStatus)
unpack_journal: Final = Unpacker(JournalStatus)
unpack_findings: Final = Unpacker(list[Finding])
