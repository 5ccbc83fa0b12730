"""Settings of the LMDB driver."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from objectio.limits import GIB, MIB


class LmdbConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver's own section.

    path             directory of the environment; "" is a directory that the node chooses
    map_size_bytes   address space reserved for the file, which grows only as it fills; when it is
                     used up the driver doubles it
    durability       "sync": a commit is on the device when it returns. "nosync": it is in the
                     page cache; a power cut may lose recent commits or damage the whole store
    """

    path: str = ""
    map_size_bytes: Annotated[int, msgspec.Meta(ge=1 * MIB)] = 64 * GIB
    durability: Literal["sync", "nosync"] = "sync"
