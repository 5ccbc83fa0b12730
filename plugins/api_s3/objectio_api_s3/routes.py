"""What the tables of operations are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio import limits
from objectio_api_s3.request import Spec

SERVICE: Final = 0
BUCKET: Final = 1
OBJECT: Final = 2

XML: Final = limits.XML_BODY_BYTES_MAX

# Every query parameter that makes a request of S3 another operation.
SUBRESOURCES: Final = frozenset(
    (
        *("abac", "accelerate", "acl", "analytics", "append", "attributes", "cors", "delete"),
        *("encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle"),
        *("location", "logging", "metadataConfiguration", "metadataInventoryTable"),
        *("metadataJournalTable", "metadataTable", "metrics", "notification", "object-lock"),
        *("ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock"),
        *("renameObject", "replication", "replication-metrics", "requestPayment", "restore"),
        *("retention", "select", "select-type", "session", "tagging", "torrent", "uploadId"),
        *("uploads", "versioning", "versions", "website", "WriteGetObjectResponse"),
    )
)

Key = tuple[str, int, frozenset[str]]
"""Method, level, set of sub-resources."""

Table = Mapping[Key, Spec]


def key(method: str, level: int, *subresources: str) -> Key:
    return method, level, frozenset(subresources)


def spec(name: str, handler: object, action: str, *parameters: str, **more: object) -> Spec:
    return Spec(name, handler, f"s3:{action}", parameters=frozenset(parameters), **more)  # type: ignore[arg-type]
