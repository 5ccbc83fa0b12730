"""Generated from the .proto files by `make proto`: not to be edited."""

from dataclasses import dataclass

import betterproto2

from objectio.rpc.control.pb.pool import default_message_pool

_COMPILER_VERSION = "0.10.1"
betterproto2.check_compiler_version(_COMPILER_VERSION)


@dataclass(eq=False, repr=False)
class ChallengeReply(betterproto2.Message):
    nonce: "bytes" = betterproto2.field(1, betterproto2.TYPE_BYTES)

    method: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)
    """
    How proofs are made: hmac-sha256-v1.
    """

    valid_seconds: "float" = betterproto2.field(3, betterproto2.TYPE_DOUBLE)
    """
    How long it can be used.
    """


default_message_pool.register_message("objectio.v1", "ChallengeReply", ChallengeReply)


@dataclass(eq=False, repr=False)
class ChallengeRequest(betterproto2.Message):
    role: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)
    """
    Role of a process (osd, gateway, meta), which proves the secret of the cluster; or admin, for
    a person, who proves the secret key of an access key.
    """

    name: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)
    """
    Name of the node; for admin the access key.
    """


default_message_pool.register_message("objectio.v1", "ChallengeRequest", ChallengeRequest)


@dataclass(eq=False, repr=False)
class ClusterMap(betterproto2.Message):
    """
    All OSDs at one epoch, ascending by id.
    """

    epoch: "int" = betterproto2.field(1, betterproto2.TYPE_UINT64)

    osds: "list[Osd]" = betterproto2.field(2, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "ClusterMap", ClusterMap)


@dataclass(eq=False, repr=False)
class ClusterStatus(betterproto2.Message):
    cluster_id: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    epoch: "int" = betterproto2.field(2, betterproto2.TYPE_UINT64)

    state: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)
    """
    waiting: objects cannot be served yet; serving
    """

    reason: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)
    """
    What is waited for.
    """

    pool: "str" = betterproto2.field(5, betterproto2.TYPE_STRING)

    nodes: "list[NodeStatus]" = betterproto2.field(6, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "ClusterStatus", ClusterStatus)


@dataclass(eq=False, repr=False)
class DiskOffer(betterproto2.Message):
    """
    A disk of a node.
    """

    path: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    device_id: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)
    """
    Empty for a blank disk.
    """

    osd: "int | None" = betterproto2.field(3, betterproto2.TYPE_UINT32, optional=True)
    """
    The number that its configuration gives it; without one it is given one.
    """

    weight: "float" = betterproto2.field(4, betterproto2.TYPE_DOUBLE)

    cluster_id: "str" = betterproto2.field(5, betterproto2.TYPE_STRING)
    """
    The cluster that the device belongs to; empty for a blank disk.
    """


default_message_pool.register_message("objectio.v1", "DiskOffer", DiskOffer)


@dataclass(eq=False, repr=False)
class DisksReply(betterproto2.Message):
    disks: "list[DiskStatus]" = betterproto2.field(1, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "DisksReply", DisksReply)


@dataclass(eq=False, repr=False)
class DisksRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "DisksRequest", DisksRequest)


@dataclass(eq=False, repr=False)
class DiskStatus(betterproto2.Message):
    """
    One OSD and the device that stands for it.
    """

    osd: "int" = betterproto2.field(1, betterproto2.TYPE_UINT32)

    path: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)

    host: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)

    rack: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)

    weight: "float" = betterproto2.field(5, betterproto2.TYPE_DOUBLE)

    state: "str" = betterproto2.field(6, betterproto2.TYPE_STRING)
    """
    up, full (takes deletions only), failed (reads only), down
    """

    reason: "str" = betterproto2.field(7, betterproto2.TYPE_STRING)
    """
    Why it is not up.
    """

    membership: "str" = betterproto2.field(8, betterproto2.TYPE_STRING)
    """
    in, draining, out
    """

    device_id: "str" = betterproto2.field(9, betterproto2.TYPE_STRING)

    refilling: "bool" = betterproto2.field(10, betterproto2.TYPE_BOOL)
    """
    Its share of shards is being made anew.
    """

    journal: "bool" = betterproto2.field(11, betterproto2.TYPE_BOOL)
    """
    It has a copy of the metadata journal.
    """

    groups: "int" = betterproto2.field(12, betterproto2.TYPE_UINT64)
    """
    Positions of placement groups that it has.
    """

    slow: "bool" = betterproto2.field(13, betterproto2.TYPE_BOOL)

    capacity_bytes: "int | None" = betterproto2.field(14, betterproto2.TYPE_UINT64, optional=True)

    used_bytes: "int | None" = betterproto2.field(15, betterproto2.TYPE_UINT64, optional=True)

    live_bytes: "int | None" = betterproto2.field(16, betterproto2.TYPE_UINT64, optional=True)

    shards: "int | None" = betterproto2.field(17, betterproto2.TYPE_UINT64, optional=True)

    cache_bytes: "int | None" = betterproto2.field(18, betterproto2.TYPE_UINT64, optional=True)

    cache_hits: "int | None" = betterproto2.field(19, betterproto2.TYPE_UINT64, optional=True)

    cache_misses: "int | None" = betterproto2.field(20, betterproto2.TYPE_UINT64, optional=True)


default_message_pool.register_message("objectio.v1", "DiskStatus", DiskStatus)


@dataclass(eq=False, repr=False)
class DoctorReply(betterproto2.Message):
    findings: "list[Finding]" = betterproto2.field(1, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "DoctorReply", DoctorReply)


@dataclass(eq=False, repr=False)
class DoctorRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "DoctorRequest", DoctorRequest)


@dataclass(eq=False, repr=False)
class Finding(betterproto2.Message):
    severity: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)
    """
    critical, warning, info
    """

    what: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)

    meaning: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)

    action: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)


default_message_pool.register_message("objectio.v1", "Finding", Finding)


@dataclass(eq=False, repr=False)
class HeartbeatReply(betterproto2.Message):
    epoch: "int" = betterproto2.field(1, betterproto2.TYPE_UINT64)


default_message_pool.register_message("objectio.v1", "HeartbeatReply", HeartbeatReply)


@dataclass(eq=False, repr=False)
class HeartbeatRequest(betterproto2.Message):
    node: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    osds: "list[OsdReport]" = betterproto2.field(2, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "HeartbeatRequest", HeartbeatRequest)


@dataclass(eq=False, repr=False)
class JournalRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "JournalRequest", JournalRequest)


@dataclass(eq=False, repr=False)
class JournalStatus(betterproto2.Message):
    """
    The metadata journal on the devices.
    """

    enabled: "bool" = betterproto2.field(1, betterproto2.TYPE_BOOL)

    copies_wanted: "int" = betterproto2.field(2, betterproto2.TYPE_UINT32)

    osds: "list[int]" = betterproto2.field(3, betterproto2.TYPE_UINT32, repeated=True)
    """
    They have a copy now.
    """

    sequence: "int" = betterproto2.field(4, betterproto2.TYPE_UINT64)

    checkpoint_sequence: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    waiting: "int" = betterproto2.field(6, betterproto2.TYPE_UINT64)
    """
    Batches of commits that are not yet on as many devices as wanted.
    """

    bytes_since_checkpoint: "int" = betterproto2.field(7, betterproto2.TYPE_UINT64)

    reason: "str" = betterproto2.field(8, betterproto2.TYPE_STRING)


default_message_pool.register_message("objectio.v1", "JournalStatus", JournalStatus)


@dataclass(eq=False, repr=False)
class MapRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "MapRequest", MapRequest)


@dataclass(eq=False, repr=False)
class NodeOffer(betterproto2.Message):
    """
    A process that has devices, and the address at which others reach it.
    """

    node: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    address: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)

    host: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)

    rack: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)

    disks: "list[DiskOffer]" = betterproto2.field(5, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "NodeOffer", NodeOffer)


@dataclass(eq=False, repr=False)
class NodeStatus(betterproto2.Message):
    node: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    role: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)
    """
    meta, osd, gateway
    """

    address: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)

    alive: "bool" = betterproto2.field(4, betterproto2.TYPE_BOOL)
    """
    Heard of within its lease.
    """

    seen_ms: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    osds: "list[OsdReport]" = betterproto2.field(6, betterproto2.TYPE_MESSAGE, repeated=True)


default_message_pool.register_message("objectio.v1", "NodeStatus", NodeStatus)


@dataclass(eq=False, repr=False)
class Osd(betterproto2.Message):
    id: "int" = betterproto2.field(1, betterproto2.TYPE_UINT32)

    weight: "float" = betterproto2.field(2, betterproto2.TYPE_DOUBLE)
    """
    Relative capacity; 0 takes no placement groups.
    """

    host: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)

    rack: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)

    in_: "bool" = betterproto2.field(5, betterproto2.TYPE_BOOL)
    """
    False once it is out for good, or on its way out.
    """


default_message_pool.register_message("objectio.v1", "Osd", Osd)


@dataclass(eq=False, repr=False)
class OsdReport(betterproto2.Message):
    osd: "int" = betterproto2.field(1, betterproto2.TYPE_UINT32)

    state: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)
    """
    up, full, failed, down
    """

    reason: "str" = betterproto2.field(3, betterproto2.TYPE_STRING)
    """
    Why it is not up.
    """

    device_id: "str" = betterproto2.field(4, betterproto2.TYPE_STRING)

    capacity_bytes: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    used_bytes: "int" = betterproto2.field(6, betterproto2.TYPE_UINT64)


default_message_pool.register_message("objectio.v1", "OsdReport", OsdReport)


@dataclass(eq=False, repr=False)
class OsdRequest(betterproto2.Message):
    osd: "int" = betterproto2.field(1, betterproto2.TYPE_UINT32)


default_message_pool.register_message("objectio.v1", "OsdRequest", OsdRequest)


@dataclass(eq=False, repr=False)
class RebalanceRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "RebalanceRequest", RebalanceRequest)


@dataclass(eq=False, repr=False)
class RebalanceStatus(betterproto2.Message):
    epoch: "int" = betterproto2.field(1, betterproto2.TYPE_UINT64)

    groups: "int" = betterproto2.field(2, betterproto2.TYPE_UINT64)

    groups_moving: "int" = betterproto2.field(3, betterproto2.TYPE_UINT64)

    groups_waiting: "int" = betterproto2.field(4, betterproto2.TYPE_UINT64)

    moved_shards: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    moved_bytes: "int" = betterproto2.field(6, betterproto2.TYPE_UINT64)

    bytes_left: "int" = betterproto2.field(7, betterproto2.TYPE_UINT64)

    bytes_per_second: "float" = betterproto2.field(8, betterproto2.TYPE_DOUBLE)

    seconds_left: "float | None" = betterproto2.field(9, betterproto2.TYPE_DOUBLE, optional=True)

    degraded_spread: "list[str]" = betterproto2.field(10, betterproto2.TYPE_STRING, repeated=True)
    """
    A sentence for each pool whose shards cannot be spread as its rule asks.
    """


default_message_pool.register_message("objectio.v1", "RebalanceStatus", RebalanceStatus)


@dataclass(eq=False, repr=False)
class Registration(betterproto2.Message):
    cluster_id: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    epoch: "int" = betterproto2.field(2, betterproto2.TYPE_UINT64)

    osds: "list[int]" = betterproto2.field(3, betterproto2.TYPE_UINT32, repeated=True)
    """
    The numbers of the disks that were offered, in their order.
    """

    heartbeat_seconds: "float" = betterproto2.field(4, betterproto2.TYPE_DOUBLE)


default_message_pool.register_message("objectio.v1", "Registration", Registration)


@dataclass(eq=False, repr=False)
class RepairRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "RepairRequest", RepairRequest)


@dataclass(eq=False, repr=False)
class RepairStatus(betterproto2.Message):
    active: "bool" = betterproto2.field(1, betterproto2.TYPE_BOOL)

    waiting: "dict[int, int]" = betterproto2.field(
        2,
        betterproto2.TYPE_MAP,
        map_meta=betterproto2.map_meta(betterproto2.TYPE_INT32, betterproto2.TYPE_UINT64),
    )
    """
    Blobs with shards to make anew, by how many more shards they may lose before they are lost.
    """

    blocked: "int" = betterproto2.field(3, betterproto2.TYPE_UINT64)
    """
    Of them, those that wait for a device that is down or for shards that cannot be read.
    """

    refilling: "list[int]" = betterproto2.field(4, betterproto2.TYPE_UINT32, repeated=True)

    repaired_shards: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    repaired_bytes: "int" = betterproto2.field(6, betterproto2.TYPE_UINT64)

    bytes_left: "int" = betterproto2.field(7, betterproto2.TYPE_UINT64)

    bytes_per_second: "float" = betterproto2.field(8, betterproto2.TYPE_DOUBLE)

    seconds_left: "float | None" = betterproto2.field(9, betterproto2.TYPE_DOUBLE, optional=True)

    waiting_for: "dict[int, str]" = betterproto2.field(
        10,
        betterproto2.TYPE_MAP,
        map_meta=betterproto2.map_meta(betterproto2.TYPE_UINT32, betterproto2.TYPE_STRING),
    )
    """
    Why OSDs that are up take no shards now.
    """


default_message_pool.register_message("objectio.v1", "RepairStatus", RepairStatus)


@dataclass(eq=False, repr=False)
class ScrubReport(betterproto2.Message):
    """
    One pass over everything stored. Only what was read is counted as healthy.
    """

    begun_ms: "int" = betterproto2.field(1, betterproto2.TYPE_UINT64)

    finished_ms: "int" = betterproto2.field(2, betterproto2.TYPE_UINT64)

    blobs: "int" = betterproto2.field(3, betterproto2.TYPE_UINT64)

    healthy: "int" = betterproto2.field(4, betterproto2.TYPE_UINT64)

    unread: "int" = betterproto2.field(5, betterproto2.TYPE_UINT64)

    shards: "int" = betterproto2.field(6, betterproto2.TYPE_UINT64)

    bytes: "int" = betterproto2.field(7, betterproto2.TYPE_UINT64)

    missing: "int" = betterproto2.field(8, betterproto2.TYPE_UINT64)

    corrupt: "int" = betterproto2.field(9, betterproto2.TYPE_UINT64)

    stale: "int" = betterproto2.field(10, betterproto2.TYPE_UINT64)

    misplaced: "int" = betterproto2.field(11, betterproto2.TYPE_UINT64)

    orphaned: "int" = betterproto2.field(12, betterproto2.TYPE_UINT64)

    inconsistent: "int" = betterproto2.field(13, betterproto2.TYPE_UINT64)

    unrepairable: "int" = betterproto2.field(14, betterproto2.TYPE_UINT64)


default_message_pool.register_message("objectio.v1", "ScrubReport", ScrubReport)


@dataclass(eq=False, repr=False)
class ScrubRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "ScrubRequest", ScrubRequest)


@dataclass(eq=False, repr=False)
class ScrubStatus(betterproto2.Message):
    running: "bool" = betterproto2.field(1, betterproto2.TYPE_BOOL)

    progress: "float" = betterproto2.field(2, betterproto2.TYPE_DOUBLE)
    """
    Of the running pass, 0 to 1.
    """

    current: "ScrubReport | None" = betterproto2.field(3, betterproto2.TYPE_MESSAGE, optional=True)

    last: "ScrubReport | None" = betterproto2.field(4, betterproto2.TYPE_MESSAGE, optional=True)

    next_ms: "int | None" = betterproto2.field(5, betterproto2.TYPE_UINT64, optional=True)


default_message_pool.register_message("objectio.v1", "ScrubStatus", ScrubStatus)


@dataclass(eq=False, repr=False)
class StatusRequest(betterproto2.Message):
    pass


default_message_pool.register_message("objectio.v1", "StatusRequest", StatusRequest)
