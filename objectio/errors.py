"""Every exception that ObjectIO raises on purpose, as one tree.

    ObjectIOError
    ├── ConfigError                 the configuration file, the environment or a flag is wrong
    ├── PluginError
    │   ├── PluginNotFound          the configuration names a driver that nobody provides
    │   ├── PluginConflict          two distributions provide one name
    │   ├── PluginLoadFailed        importing or registering raised
    │   ├── PluginIncompatible      written for another version of the contract
    │   ├── PluginTimeout           did not answer a start-up hook in time
    │   └── DriverUnavailable       a driver cannot be opened on this machine (missing library, …)
    ├── StorageError
    │   ├── NotFound                bucket, object, upload, part, key or shard that is not there
    │   ├── AlreadyExists
    │   ├── NotEmpty                a bucket that still holds something
    │   ├── InvalidRequest          a value outside of what the store accepts
    │   ├── PreconditionFailed      If-Match and its family
    │   ├── NotModified             a conditional read that has nothing new to say
    │   ├── RangeNotSatisfiable
    │   ├── CommitConflict          a check of a metadata commit did not hold; read again and retry
    │   ├── InsufficientShards      fewer shards than the codec needs are readable
    │   ├── ChecksumMismatch        bytes on a device are not the bytes that were written
    │   ├── DeviceFull
    │   ├── DeviceFailed            a device returned an I/O error or is gone
    │   ├── WriteQuorumFailed       too few devices took the write for it to be safe
    │   ├── Unavailable             cannot be served now; the same request may succeed later
    │   └── QuotaExceeded
    ├── PayloadError                what the client sent is not what it promised
    │   ├── PayloadIncomplete       fewer bytes than declared
    │   ├── PayloadTooLarge
    │   ├── PayloadDigestMismatch   a digest or checksum that the client declared is not that of the bytes
    │   ├── PayloadMalformed        framing or syntax
    │   └── PayloadTimeout          the client stopped sending
    ├── AccessError
    │   ├── Unauthenticated         no credentials, or of a kind that the gate does not know
    │   ├── CredentialsMalformed
    │   ├── UnknownAccessKey
    │   ├── SignatureMismatch
    │   ├── RequestExpired
    │   ├── ClockSkewed
    │   └── AccessDenied            known, and not allowed
    ├── OperationNotImplemented     recognised, and not built
    ├── MethodNotAllowed
    └── ProtocolError
        ├── LocalProtocolError      our side broke the protocol: a bug
        └── RemoteProtocolError     the peer did

A wire code (an S3 `Code`, an HTTP status, an errno) is chosen at the edge by the front end,
never here. `retryable` says whether the same call can succeed later without a change.
"""

from __future__ import annotations


class ObjectIOError(Exception):
    """The root. Carries ids as fields, so that a front end need not parse the text."""

    retryable = False

    def __init__(self, message: str = "", **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class ConfigError(ObjectIOError):
    """The configuration is wrong; the message says where and what to do."""


class PluginError(ObjectIOError):
    """Something about a plugin; `fields` may hold `plugin`, `distribution`, `kind`, `name`."""


class PluginNotFound(PluginError):
    pass


class PluginConflict(PluginError):
    pass


class PluginLoadFailed(PluginError):
    pass


class PluginIncompatible(PluginError):
    pass


class PluginTimeout(PluginError):
    pass


class DriverUnavailable(PluginError):
    pass


class StorageError(ObjectIOError):
    pass


class NotFound(StorageError):
    """`fields["kind"]` is one of bucket, object, version, upload, part, shard, osd, blob, key."""


class AlreadyExists(StorageError):
    pass


class NotEmpty(StorageError):
    pass


class InvalidRequest(StorageError):
    """`fields["reason"]` is a short machine-readable word that a front end maps to its code."""


class PreconditionFailed(StorageError):
    pass


class NotModified(StorageError):
    pass


class RangeNotSatisfiable(StorageError):
    pass


class CommitConflict(StorageError):
    retryable = True


class InsufficientShards(StorageError):
    retryable = True


class ChecksumMismatch(StorageError):
    pass


class DeviceFull(StorageError):
    pass


class DeviceFailed(StorageError):
    retryable = True


class WriteQuorumFailed(StorageError):
    retryable = True


class Unavailable(StorageError):
    retryable = True


class QuotaExceeded(StorageError):
    pass


class PayloadError(ObjectIOError):
    pass


class PayloadIncomplete(PayloadError):
    pass


class PayloadTooLarge(PayloadError):
    pass


class PayloadDigestMismatch(PayloadError):
    """`fields["digest"]` names the digest: md5, sha256-header, chunk-signature, crc32, …"""


class PayloadMalformed(PayloadError):
    pass


class PayloadTimeout(PayloadError):
    retryable = True


class AccessError(ObjectIOError):
    pass


class Unauthenticated(AccessError):
    pass


class CredentialsMalformed(AccessError):
    pass


class UnknownAccessKey(AccessError):
    pass


class SignatureMismatch(AccessError):
    pass


class RequestExpired(AccessError):
    pass


class ClockSkewed(AccessError):
    pass


class AccessDenied(AccessError):
    pass


class OperationNotImplemented(ObjectIOError):
    pass


class MethodNotAllowed(ObjectIOError):
    pass


class ProtocolError(ObjectIOError):
    pass


class LocalProtocolError(ProtocolError):
    pass


class RemoteProtocolError(ProtocolError):
    pass
