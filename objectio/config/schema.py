"""What may be configured: one frozen Struct for each section of the file.

Types, bounds, defaults and descriptions stand here once; the loader, the JSON schema, the sample
and `docs/reference/config.md` are made from them. Sizes are whole numbers of bytes. A table inside
of a section, `[osd.log]`, belongs to the driver of that name and is described by the driver.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from objectio.limits import (
    KIB,
    MIB,
    PART_SIZE_BYTES_MIN,
    STRIPE_SIZE_BYTES_DEFAULT,
    STRIPE_SIZE_BYTES_MAX,
    STRIPE_WIDTH_MAX,
)
from objectio.model.bucket import ObjectOwnership

DRIVER_TABLES: Final = {
    "kv": "kv",
    "osd": "shardstore",
    "codec": "codec",
    "placement": "placement",
    "api": "api",
    "metrics": "exporter",
    "sinks": "sink",
    "kms": "kms",
    "filter": "filter",
}
"""Sections whose tables hold settings of drivers, and the kind of these."""

NUMBER_UNKNOWN: Final = -1
"""Of a disk that has no number in the cluster yet, or whose number is not known here."""

DriverName = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]*)?$")]
ListenAddress = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):[0-9]{1,5}$")]
PeerAddress = Annotated[
    str, Meta(pattern=r"^(|unix:.+|(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):[0-9]{1,5})$")
]
Seconds = Annotated[float, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One section; its docstring is its description."""


class NodeSection(Section, frozen=True, kw_only=True):
    """This node: its name, where it keeps its own files and what it does."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
            description="Unique among the nodes of a cluster.",
        ),
    ] = "n1"
    data_dir: Annotated[
        str,
        Meta(
            min_length=1,
            description="Directory for metadata, credentials and whatever drivers keep; "
            "relative to the configuration file.",
        ),
    ] = "objectio-data"
    roles: Annotated[
        tuple[DriverName, ...],
        Meta(description="What this node does; an installed plugin may offer more roles."),
    ] = ("osd", "meta", "gateway")
    disabled_plugins: Annotated[
        tuple[str, ...],
        Meta(description="Plugins not to load, by the names in `objectio plugin list`."),
    ] = ()


class ClusterSection(Section, frozen=True, kw_only=True):
    """How the processes of one cluster find each other, and prove that they belong to it."""

    meta_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(|https?://[^/]+/?|unix:.+)$",
            description="Where the metadata is, http://HOST:PORT, https://HOST:PORT or unix:PATH; "
            "empty where this process has it.",
        ),
    ] = ""
    secret_file: Annotated[
        str,
        Meta(
            min_length=1,
            description="The secret that all processes of the cluster share, a file that only its "
            "owner may read; relative to `node.data_dir`. Made with a new cluster.",
        ),
    ] = "cluster.secret"  # noqa: S105 - the name of a file
    lease_seconds: Annotated[
        Annotated[float, Meta(ge=1)],
        Meta(
            description="A process that was not heard of for so long is taken for dead; a gateway's "
            "writes that are under way are refused from then on."
        ),
    ] = 10.0
    tls_cert_file: Annotated[
        str,
        Meta(
            description="Certificate chain of this process, PEM; empty: no TLS between processes."
        ),
    ] = ""
    tls_key_file: Annotated[str, Meta(description="The key of that certificate, PEM.")] = ""
    tls_ca_file: Annotated[
        str, Meta(description="What signed the certificates of the other processes, PEM.")
    ] = ""

    def __post_init__(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file: set both, or neither")


class MetaSection(Section, frozen=True, kw_only=True):
    """The process with the metadata, for other processes."""

    listen: Annotated[
        PeerAddress,
        Meta(
            description="HOST:PORT or unix:PATH where other processes, and the command line, find it; "
            "empty: nobody does."
        ),
    ] = ""
    keep_pool: Annotated[
        bool,
        Meta(
            description="Whether the pool in use stays in use, and `[pool]` counts for a new cluster "
            "only. `objectio meta` without --ec, --replication and a file sets it."
        ),
    ] = False


class LogSection(Section, frozen=True, kw_only=True):
    """What the node says on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important messages that are shown."),
    ] = "info"
    requests: Annotated[
        bool, Meta(description="Whether every request gets a line; failures of the node always do.")
    ] = False
    format: Annotated[
        Literal["text", "json"], Meta(description="For people, or one JSON object for each line.")
    ] = "text"


class AuditSection(Section, frozen=True, kw_only=True):
    """Files of lines that say who changed what, and who was denied what: `audit/` in the data
    directory."""

    enabled: Annotated[bool, Meta(description="Whether they are written.")] = True
    file_bytes_max: Annotated[
        int, Meta(ge=64 * KIB, description="A file of this size is put aside, and a new one begun.")
    ] = 64 * MIB
    files_max: Annotated[
        int, Meta(ge=1, description="How many that were put aside are kept, of each kind.")
    ] = 16
    denied_per_second_max: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="How many lines of denied requests a process writes; of what is beyond, the "
            "number is written."
        ),
    ] = 100.0


class KvSection(Section, frozen=True, kw_only=True):
    """The key-value engine that holds the metadata."""

    driver: Annotated[
        DriverName, Meta(description="An installed engine; empty takes the best one installed.")
    ] = ""
    filters: Annotated[
        tuple[DriverName, ...], Meta(description="Filters around the engine, outermost first.")
    ] = ()
    journal: Annotated[
        bool,
        Meta(
            description="Whether each commit of an engine with one copy is also written to one "
            "device more than a pool may lose, so that `objectio meta rebuild` can restore it."
        ),
    ] = True
    near: Annotated[
        bool,
        Meta(
            description="Whether a gateway reads rows from the files of the metadata itself, which "
            "are on this machine, in the same data directory; `serve --workers` sets it."
        ),
    ] = False


class KmsSection(Section, frozen=True, kw_only=True):
    """Who keeps the keys that data keys, and secrets of users, are wrapped with."""

    driver: Annotated[
        DriverName,
        Meta(description="An installed key manager. What one has wrapped, no other opens."),
    ] = "local"
    require_key_id: Annotated[
        bool,
        Meta(
            description="Whether a write that asks for SSE-KMS must say by which key, and is refused "
            "if it does not; false: it gets the default key."
        ),
    ] = False


class DiskSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, as a table `[[osd.disk]]`."""

    id: Annotated[
        int,
        Meta(
            ge=-1,
            description="Its number in the cluster; never used again. -1: the process with the "
            "metadata gives it one, which is only so where `cluster.meta_endpoint` is set.",
        ),
    ] = NUMBER_UNKNOWN
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="A directory, a file or a block device; relative to `node.data_dir`.",
        ),
    ]
    weight: Annotated[float, Meta(ge=0, description="Relative capacity; 0 takes no data.")] = 1.0
    host: Annotated[str, Meta(min_length=1, description="The host it is in.")] = "localhost"
    rack: Annotated[str, Meta(min_length=1, description="The rack that host is in.")] = "default"
    size_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Size of the image file to make where there is none; 0 makes a directory.",
        ),
    ] = 0
    replace_blank: Annotated[
        bool,
        Meta(
            description="Whether a blank disk in place of a known one is taken into service and "
            "refilled by itself. Leave it false where a missing mount would look like one."
        ),
    ] = False


class OsdSection(Section, frozen=True, kw_only=True):
    """The devices of this node and how shards are kept on them."""

    driver: Annotated[
        DriverName,
        Meta(description="An installed shard store; empty takes the best one installed."),
    ] = "log"
    filters: Annotated[
        tuple[DriverName, ...], Meta(description="Filters around each device, outermost first.")
    ] = ()
    check_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="Pause between two looks at every device."),
    ] = 2.0
    listen: Annotated[
        PeerAddress,
        Meta(
            description="HOST:PORT or unix:PATH where other processes reach the devices; empty: only "
            "this process does."
        ),
    ] = ""
    address: Annotated[
        PeerAddress,
        Meta(description="What others are told to connect to, if that is not `listen`."),
    ] = ""
    host: Annotated[
        str, Meta(description="The host of disks that say none; empty: the name of this machine.")
    ] = ""
    rack: Annotated[str, Meta(min_length=1, description="The rack of disks that say none.")] = (
        "default"
    )
    disk: Annotated[tuple[DiskSection, ...], Meta(description="The devices.")] = ()

    def __post_init__(self) -> None:
        for field in ("id", "path"):
            values = [getattr(disk, field) for disk in self.disk]
            values = [value for value in values if value != NUMBER_UNKNOWN]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"two of the disks have {field} = {twice[0]!r}")


class CodecSection(Section, frozen=True, kw_only=True):
    """Settings of erasure codecs, in a table for each: which one is used is said in `[pool]`."""


class PlacementSection(Section, frozen=True, kw_only=True):
    """Settings of placement rules, in a table for each: which one is used is said in `[pool]`."""


class ApiSection(Section, frozen=True, kw_only=True):
    """Settings of API front ends, in a table for each: which are served is said in `[gateway]`."""


class PoolSection(Section, frozen=True, kw_only=True):
    """How objects are cut, encoded and spread. Written into each object: a change is for new ones."""

    family: Annotated[
        str,
        Meta(min_length=1, description="The codec family: decides the bytes of parity, for ever."),
    ] = "rs-cauchy-0x11d"
    data_shards: Annotated[
        int, Meta(ge=1, le=STRIPE_WIDTH_MAX, description="k: shards that a stripe is cut into.")
    ] = 4
    parity_shards: Annotated[
        int,
        Meta(ge=0, le=STRIPE_WIDTH_MAX - 1, description="m: shards of a stripe that may be lost."),
    ] = 2
    codec: Annotated[
        DriverName,
        Meta(description="The codec that computes; empty takes the best one of the family."),
    ] = ""
    placement: Annotated[
        DriverName, Meta(description="The placement rule; empty takes the best one installed.")
    ] = ""
    failure_domain: Annotated[
        Literal["disk", "host", "rack"],
        Meta(description="No two shards of a stripe share one of these while there are enough."),
    ] = "disk"
    placement_groups: Annotated[
        int, Meta(ge=1, le=65_536, description="Groups of objects; cannot be changed later.")
    ] = 128
    stripe_size_bytes: Annotated[
        int,
        Meta(ge=4 * KIB, le=STRIPE_SIZE_BYTES_MAX, description="Object data in one full stripe."),
    ] = STRIPE_SIZE_BYTES_DEFAULT

    def __post_init__(self) -> None:
        if self.data_shards + self.parity_shards > STRIPE_WIDTH_MAX:
            raise ValueError(f"data_shards + parity_shards may not exceed {STRIPE_WIDTH_MAX}")


class StoreSection(Section, frozen=True, kw_only=True):
    """The object store above the devices."""

    memory_bytes_max: Annotated[
        int, Meta(ge=1 * MIB, description="Memory for stripes under way, of all requests.")
    ] = 128 * MIB
    write_straggler_seconds: Annotated[
        Seconds,
        Meta(description="How long a safe write still waits for its slowest devices."),
    ] = 1.0
    gc_grace_seconds: Annotated[
        Seconds, Meta(description="How long shards of a deleted object are kept.")
    ] = 0.0
    part_size_bytes_min: Annotated[
        int, Meta(ge=1, description="The least size of a part of an upload but the last.")
    ] = PART_SIZE_BYTES_MIN
    repair_interval_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="Pause between two looks for what must be repaired."),
    ] = 60.0
    repair_bytes_per_second: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="How fast shards are made anew, in bytes written, over all devices. What could "
            "not lose another shard does not keep to it."
        ),
    ] = 256.0 * MIB
    rebalance_bytes_per_second: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="How fast shards move when disks are added, drained or removed, in bytes "
            "written, over all devices."
        ),
    ] = 128.0 * MIB
    read_hedge_seconds: Annotated[
        Seconds,
        Meta(
            description="A read that a device has not answered for so long is made up for from "
            "the others; 0: never."
        ),
    ] = 0.02
    scrub_interval_seconds: Annotated[
        Seconds,
        Meta(
            description="How often everything stored is read and verified, so that damage is found "
            "while it can be repaired; 0: never."
        ),
    ] = 7 * 86_400.0
    scrub_bytes_per_second: Annotated[
        Annotated[float, Meta(gt=0)], Meta(description="How fast that is done, over all devices.")
    ] = 32.0 * MIB
    quota_interval_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="Pause between two counts of what buckets with a quota hold, at least; they "
            "take a tenth of the time at most."
        ),
    ] = 10.0
    lifecycle_interval_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="Pause between two looks at which buckets' lifecycle rules have something to "
            "do: those that have were changed, or not walked since midnight UTC. Never longer than a "
            "tenth of a day."
        ),
    ] = 60.0
    lifecycle_rows_per_second: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="How many versions and uploads lifecycle looks at, at most."),
    ] = 20_000.0
    lifecycle_day_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(
            description="How long a day of lifecycle rules is. Anything but 86400 is for tests: days "
            "are not rounded to midnight then, and every bucket with rules is walked each time."
        ),
    ] = 86_400.0


class GatewaySection(Section, frozen=True, kw_only=True):
    """The HTTP server that all API front ends share."""

    listen: Annotated[ListenAddress, Meta(description="HOST:PORT; port 0 takes a free one.")] = (
        "127.0.0.1:9000"
    )
    apis: Annotated[
        tuple[DriverName, ...],
        Meta(description="The front ends to serve; empty serves all that are installed."),
    ] = ()
    region: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9-]{1,63}$", description="The region that signatures are made for."),
    ] = "us-east-1"
    auth: Annotated[
        bool, Meta(description="False lets everyone do everything: for tests on one machine only.")
    ] = True
    body_idle_seconds: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="A client that sends nothing of its body for so long is cut off."),
    ] = 30.0
    body_bytes_per_second_min: Annotated[
        Seconds,
        Meta(
            description="A client whose body comes slower than this, taken over `body_idle_seconds`, is "
            "cut off too; 0: only one that sends nothing."
        ),
    ] = 100.0
    head_seconds_max: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="How long the head of a request may take to come."),
    ] = 20.0
    write_seconds_max: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="A client that takes nothing of its response for so long is cut off."),
    ] = 60.0
    connections_max: Annotated[
        int, Meta(ge=1, description="Connections at a time; more are answered 503.")
    ] = 4096
    connections_per_address_max: Annotated[
        int,
        Meta(
            ge=0,
            description="Of these, from one address (IPv6: one /64) that is no trusted proxy; more are "
            "answered 503. 0: as many as there may be.",
        ),
    ] = 0
    requests_max: Annotated[
        int,
        Meta(ge=1, description="Requests that are answered at a time; more are told to slow down."),
    ] = 4096
    metrics_public: Annotated[
        bool, Meta(description="Whether `/metrics` is shown to other machines than this one.")
    ] = False
    object_ownership: Annotated[
        ObjectOwnership,
        Meta(
            description="Of buckets that are made without saying: whether ACLs count there "
            "(BucketOwnerEnforced: they do not)."
        ),
    ] = "BucketOwnerEnforced"
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of proxies whose X-Forwarded-For and "
            "X-Forwarded-Proto are believed; from anyone else they mean nothing."
        ),
    ] = ()
    tls_cert_file: Annotated[
        str,
        Meta(
            description="The certificate of `listen` with its chain (PEM), relative to the data "
            "directory; empty: plain HTTP."
        ),
    ] = ""
    tls_key_file: Annotated[
        str,
        Meta(description="Its private key (PEM), likewise; empty: it is in the same file."),
    ] = ""

    def __post_init__(self) -> None:
        if int(self.listen.rpartition(":")[2]) > 65_535:
            raise ValueError(f"the port of listen = {self.listen!r} is above 65535")
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file is set and tls_cert_file is not")
        for network in self.trusted_proxies:
            ip_network(network, strict=False)


class MetricsSection(Section, frozen=True, kw_only=True):
    """What counts requests, bytes and failures."""

    exporter: Annotated[
        DriverName,
        Meta(description="An installed exporter; empty takes the best one installed, if any is."),
    ] = ""
    listen: Annotated[
        PeerAddress,
        Meta(
            description="HOST:PORT or unix:PATH of `/metrics` and `/health` of a process that is no "
            "gateway; empty: none."
        ),
    ] = ""
    tls_cert_file: Annotated[
        str,
        Meta(
            description="The certificate of `listen` with its chain (PEM), relative to the data "
            "directory; empty: plain HTTP."
        ),
    ] = ""
    tls_key_file: Annotated[
        str,
        Meta(description="Its private key (PEM), likewise; empty: it is in the same file."),
    ] = ""

    def __post_init__(self) -> None:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file is set and tls_cert_file is not")


class SinksSection(Section, frozen=True, kw_only=True):
    """Where events of buckets are sent, by the process with the metadata: a table for each sink."""

    event_age_seconds_max: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="An event that no target took for so long is given up."),
    ] = 7 * 86_400.0


class FilterSection(Section, frozen=True, kw_only=True):
    """Settings of filters, in a table for each: where one is used is said in `[kv]` and `[osd]`."""


class Sections(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every section, in the order of the file."""

    node: NodeSection = NodeSection()
    log: LogSection = LogSection()
    audit: AuditSection = AuditSection()
    cluster: ClusterSection = ClusterSection()
    meta: MetaSection = MetaSection()
    kv: KvSection = KvSection()
    kms: KmsSection = KmsSection()
    osd: OsdSection = OsdSection()
    codec: CodecSection = CodecSection()
    placement: PlacementSection = PlacementSection()
    pool: PoolSection = PoolSection()
    store: StoreSection = StoreSection()
    gateway: GatewaySection = GatewaySection()
    api: ApiSection = ApiSection()
    metrics: MetricsSection = MetricsSection()
    sinks: SinksSection = SinksSection()
    filter: FilterSection = FilterSection()
