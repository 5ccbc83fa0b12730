"""The rows of the metadata store: what their keys are made of.

One letter says the kind, so that kinds never mix in a scan. Bucket ids are 8 bytes and never used
again, so a bucket that is created anew does not see the rows of its namesake.

    c…                                  cluster: identity, map, OSDs, pools, placement groups, moves,
                                        locations of OSDs, sessions of gateways
    B <bucket name>                     BucketRecord
    b <bucket id> <name>                a document of the bucket: see `objectio.model.bucket`
    o <bucket id> <key>                 ObjectRecord: the current version
    d <bucket id> <key>                 ObjectRecord: the current version where it is a delete marker;
                                        then there is no row o of that key
    v <bucket id> <escaped key> <~sequence, 8 bytes>   ObjectRecord: a noncurrent version, newest first
    n <bucket id> <key>                 the sequence of the version "null", if that is noncurrent
    m <manifest id>                     the blobs of an object with many parts
    u <bucket id> <escaped key> <upload id>          UploadRecord
    p <upload id> <part number, 2 bytes>             PartRecord
    e <upload id>                       an upload that ended, whose part rows are still to go
    r <blob id>                         the blob is owned: BlobRow
    g <milliseconds, 8 bytes> <id>      garbage: blobs that nobody refers to any more
    x <blob id>                         shards to repair: a bit mask of positions
    q <target, 8 bytes> <milliseconds, 8 bytes> <id, 8 bytes>   an event that a target is still to be
                                        told of; the target is a hash of its ARN
    t l <bucket id>                     how far a bucket's lifecycle pass got
    t q <canonical id>                  the quota of an account
    t u <bucket id>                     what a bucket with a quota held when it was counted last
    t a <canonical id>                  what the buckets of an account with a quota held, likewise
    I …                                 identities: accounts, users, keys, roles (`objectio.iam`)
    j/ …                                the engine's own: see `objectio.kv.outbox`
"""

from __future__ import annotations

import hashlib
from typing import Final

from objectio.kv.keys import encode_uint, escape, escape_prefix

CLUSTER: Final = b"c/cluster"
POOLS: Final = b"c/pool/"
GROUPS: Final = b"c/groups/"
OSDS: Final = b"c/osd/"
REFILLS: Final = b"c/refill/"
MAP: Final = b"c/map"
MOVES: Final = b"c/move/"
SCRUB: Final = b"c/scrub"
JOURNAL: Final = b"c/journal"
CURRENT_POOL: Final = b"c/current"
LOCATIONS: Final = b"c/location/"
OSD_NEXT: Final = b"c/nextosd"
SESSIONS: Final = b"c/session/"
KEY_SET: Final = b"c/keyset"
"""Which set of keys data keys are wrapped with: what `KeyManager.start` gave."""
OUTBOX: Final = b"j/"
BUCKETS: Final = b"B"
BLOBS: Final = b"r"
GARBAGE: Final = b"g"
REPAIRS: Final = b"x"
ENDED: Final = b"e"
EVENTS: Final = b"q"
WORKERS: Final = b"t"
LIFECYCLES: Final = WORKERS + b"l"
USAGES: Final = WORKERS + b"u"
ACCOUNT_USAGES: Final = WORKERS + b"a"
ACCOUNT_QUOTAS: Final = WORKERS + b"q"
IDENTITIES: Final = b"I"

BUCKET_ID_BYTES: Final = 8
EVENT_TARGET_BYTES: Final = 8
SEQUENCE_MAX: Final = (1 << 64) - 1


def pool(pool_id: int) -> bytes:
    return POOLS + encode_uint(pool_id, 4)


def groups(pool_id: int) -> bytes:
    return GROUPS + encode_uint(pool_id, 4)


def move(pool_id: int, group: int) -> bytes:
    return MOVES + encode_uint(pool_id, 4) + encode_uint(group, 4)


def osd(osd_id: int) -> bytes:
    return OSDS + encode_uint(osd_id, 4)


def refill(osd_id: int) -> bytes:
    return REFILLS + encode_uint(osd_id, 4)


def location(osd_id: int) -> bytes:
    return LOCATIONS + encode_uint(osd_id, 4)


def session(session_id: bytes) -> bytes:
    return SESSIONS + session_id


def bucket(name: str) -> bytes:
    return BUCKETS + name.encode("utf-8")


def documents(bucket_id: bytes) -> bytes:
    return b"b" + bucket_id


def document(bucket_id: bytes, name: str) -> bytes:
    return b"b" + bucket_id + name.encode("utf-8")


def objects(bucket_id: bytes) -> bytes:
    return b"o" + bucket_id


def object(bucket_id: bytes, key: bytes) -> bytes:
    return b"o" + bucket_id + key


def markers(bucket_id: bytes) -> bytes:
    return b"d" + bucket_id


def marker(bucket_id: bytes, key: bytes) -> bytes:
    return b"d" + bucket_id + key


def versions(bucket_id: bytes) -> bytes:
    return b"v" + bucket_id


def versions_of_prefix(bucket_id: bytes, prefix: bytes) -> bytes:
    return b"v" + bucket_id + escape_prefix(prefix)


def versions_of_key(bucket_id: bytes, key: bytes) -> bytes:
    return b"v" + bucket_id + escape(key)


def version(bucket_id: bytes, key: bytes, sequence: int) -> bytes:
    """The newest sorts first."""
    return b"v" + bucket_id + escape(key) + encode_uint(SEQUENCE_MAX - sequence, 8)


def null_versions(bucket_id: bytes) -> bytes:
    return b"n" + bucket_id


def null_version(bucket_id: bytes, key: bytes) -> bytes:
    return b"n" + bucket_id + key


def manifest(manifest_id: bytes) -> bytes:
    return b"m" + manifest_id


def uploads(bucket_id: bytes) -> bytes:
    return b"u" + bucket_id


def uploads_of_prefix(bucket_id: bytes, prefix: bytes) -> bytes:
    return b"u" + bucket_id + escape_prefix(prefix)


def upload(bucket_id: bytes, key: bytes, upload_id: bytes) -> bytes:
    return b"u" + bucket_id + escape(key) + upload_id


def parts(upload_id: bytes) -> bytes:
    return b"p" + upload_id


def part(upload_id: bytes, number: int) -> bytes:
    return b"p" + upload_id + encode_uint(number, 2)


def ended(upload_id: bytes) -> bytes:
    return ENDED + upload_id


def blob(blob_id: bytes) -> bytes:
    return BLOBS + blob_id


def events(target: str) -> bytes:
    return EVENTS + hashlib.sha256(target.encode("utf-8")).digest()[:EVENT_TARGET_BYTES]


def event(target: str, milliseconds: int, entry_id: bytes) -> bytes:
    return events(target) + encode_uint(milliseconds, 8) + entry_id


def lifecycle(bucket_id: bytes) -> bytes:
    return LIFECYCLES + bucket_id


def usage(bucket_id: bytes) -> bytes:
    return USAGES + bucket_id


def account_usage(owner: str) -> bytes:
    return ACCOUNT_USAGES + owner.encode("utf-8")


def account_quota(owner: str) -> bytes:
    return ACCOUNT_QUOTAS + owner.encode("utf-8")


def garbage(milliseconds: int, entry_id: bytes) -> bytes:
    return GARBAGE + encode_uint(milliseconds, 8) + entry_id


def repair(blob_id: bytes) -> bytes:
    return REPAIRS + blob_id
