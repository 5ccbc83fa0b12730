"""Settings of the log-structured shard store."""

from __future__ import annotations

from typing import Annotated

import msgspec

from objectio.limits import LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MIN, MIB
from objectio.osd.device import Direct


class LogStoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the log-structured shard store, `[osd.log]`."""

    segment_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=LOG_SEGMENT_BYTES_MIN,
            description="Size of a log segment of devices prepared from now on; a small device "
            "gets smaller ones.",
        ),
    ] = LOG_SEGMENT_BYTES_DEFAULT
    direct: Annotated[
        Direct,
        msgspec.Meta(
            description="Whether devices are read and written past the page cache (O_DIRECT). auto: "
            "block devices and image files where that can be done; always: directories too, and "
            "where it cannot be done it is an error; never: the page cache is used."
        ),
    ] = "auto"
    cache_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="Memory for a cache of what was read, for each device that is read past the "
            "page cache; 0: none.",
        ),
    ] = 64 * MIB
    free_bytes_min: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="A directory takes no more shards when its file system has less than this "
            "left, so that deletes and metadata still have room.",
        ),
    ] = 32 * MIB
    checkpoint_changes: Annotated[
        int, msgspec.Meta(ge=1, description="Index changes after which a checkpoint is written.")
    ] = 16_384
    checkpoint_seconds: Annotated[
        float, msgspec.Meta(gt=0, description="The longest time between changes and a checkpoint.")
    ] = 10.0
    compact_live_share_max: Annotated[
        float,
        msgspec.Meta(ge=0, le=1, description="Segments with a smaller live share are compacted."),
    ] = 0.5
    compact_bytes_per_second: Annotated[
        float, msgspec.Meta(gt=0, description="How fast compaction may copy, per device.")
    ] = 64.0 * MIB
