"""Settings of the LevelDB driver."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from objectio.limits import KIB, MIB


class LevelDbConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's own section.

    path                 directory of the store; "" is a directory that the node chooses
    durability           "sync": a commit is on the device when it returns. "nosync": it is in the
                         page cache; a power cut may lose recent commits
    cache_bytes          blocks kept in memory
    write_buffer_bytes   rows gathered in memory before they are sorted into a file
    """

    path: str = ""
    durability: Literal["sync", "nosync"] = "sync"
    cache_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB)] = 64 * MIB
    write_buffer_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB)] = 16 * MIB
