"""Named bounds, each with its unit in its name and the reason for its value."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

# Names (S3 user guide: bucket naming rules, object key names).
BUCKET_NAME_CHARS_MIN: Final = 3
BUCKET_NAME_CHARS_MAX: Final = 63
OBJECT_KEY_BYTES_MAX: Final = 1024
USER_METADATA_BYTES_MAX: Final = 2 * KIB

# Objects and uploads (S3 user guide: multipart upload limits).
OBJECT_SIZE_BYTES_MAX: Final = 5 * TIB
PUT_SIZE_BYTES_MAX: Final = 5 * GIB
PART_SIZE_BYTES_MIN: Final = 5 * MIB
PART_SIZE_BYTES_MAX: Final = 5 * GIB
PART_NUMBER_MAX: Final = 10_000
LIST_KEYS_MAX: Final = 1_000
DELETE_KEYS_MAX: Final = 1_000
XML_BODY_BYTES_MAX: Final = (
    2 * MIB
)  # CompleteMultipartUpload with 10,000 parts and checksums is 1.4 MiB

# Stripes. GF(256) has 255 non-zero elements, so k + m may not exceed 255; a stripe of more than 64
# shards gives up more by fan-out than it gains.
STRIPE_WIDTH_MAX: Final = 64
STRIPE_SIZE_BYTES_DEFAULT: Final = 4 * MIB
STRIPE_SIZE_BYTES_MAX: Final = 64 * MIB
SHARD_SIZE_BYTES_MAX: Final = 64 * MIB  # replication stores a whole stripe in each shard

# A key-value engine must take at least this; larger keys and values are split above it.
KV_KEY_BYTES_MAX: Final = 4 * KIB
KV_VALUE_BYTES_MAX: Final = 1 * MIB
KV_SCAN_ROWS_MAX: Final = 10_000  # one call; callers page
# One commit: completing an upload of PART_NUMBER_MAX parts deletes a row for each, and little more.
KV_COMMIT_WRITES_MAX: Final = PART_NUMBER_MAX + 100
KV_COMMIT_BYTES_MAX: Final = 16 * MIB
# One group commit: enough to spread a sync over everyone who waits, small enough that the first of
# them does not wait long. Beyond the pending bound a caller is told to come back.
KV_BATCH_COMMITS_MAX: Final = 1_024
KV_BATCH_BYTES_MAX: Final = 16 * MIB
KV_PENDING_COMMITS_MAX: Final = 65_536
# Batches that the engine may be ahead of the journal on the devices: one there, one on its way.
KV_BATCHES_AHEAD_MAX: Final = 2
# Batches that the engine has and the journal may not: a restart journals their keys again. Beyond it
# everything is copied, which is no slower by then.
KV_OUTBOX_ROWS_MAX: Final = 4_096

# The device log.
LOG_SEGMENT_BYTES_DEFAULT: Final = 64 * MIB
LOG_SEGMENT_BYTES_MIN: Final = 1 * MIB
LOG_BATCH_BYTES_MAX: Final = 32 * MIB

# Plugins answer start-up hooks within this, or the node reports them and stops.
PLUGIN_HOOK_TIMEOUT_SECONDS: Final = 10.0
