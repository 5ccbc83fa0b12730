"""The operations on the service and on buckets: method and sub-resources to what is done."""

from __future__ import annotations

from typing import Final

from objectio_api_s3 import acl
from objectio_api_s3.configuration import (
    bucket_acl,
    cors,
    encryption,
    lifecycle,
    lock,
    notification,
    ownership,
    policy,
    public_access,
    tagging,
    unconfigured,
    versioning,
    website,
)
from objectio_api_s3.operations import bucket, delete, listing, multipart, site
from objectio_api_s3.request import Handler, Spec
from objectio_api_s3.routes import BUCKET, SERVICE, XML, Key, Table, key, spec

_LIST: Final = ("prefix", "delimiter", "max-keys", "encoding-type")
LIST_V2: Final = spec(
    *("ListObjectsV2", listing.list_objects_v2, "ListBucket", "list-type"),
    *(*_LIST, "start-after", "continuation-token", "fetch-owner"),
)

PREFLIGHT: Final = spec("PreflightRequest", cors.preflight, "PreflightRequest", public=True)

SITE: Final = spec("GetWebsitePage", site.serve, "GetObject", late=True)


def _document(
    subresource: str,
    noun: str,
    get: Handler | None = None,
    put: Handler | None = None,
    delete: Handler | None = None,
    *,
    action: str = "",
    body_bytes_max: int = XML,
    headers: frozenset[bytes] = frozenset(),
    parameters: tuple[str, ...] = (),
) -> dict[Key, Spec]:
    """Rows for the operations on a sub-resource: Get`noun`, Put`noun`, Delete`noun`. Their actions
    are called after `action`, for which S3 often has another name; to delete one is to put it, but
    for the policy and the website (Service Authorization Reference, "Actions for Amazon S3")."""
    action = action or noun
    found: dict[Key, Spec] = {}
    if get is not None:
        row = spec(f"Get{noun}", get, f"Get{action}", *parameters)
        found[key("GET", BUCKET, subresource)] = row
    if put is not None:
        row = spec(
            f"Put{noun}",
            put,
            f"Put{action}",
            *parameters,
            body_bytes_max=body_bytes_max,
            headers=headers,
        )
        found[key("PUT", BUCKET, subresource)] = row
    if delete is not None:
        verb = "Delete" if noun in ("BucketPolicy", "BucketWebsite") else "Put"
        row = spec(f"Delete{noun}", delete, f"{verb}{action}", *parameters)
        found[key("DELETE", BUCKET, subresource)] = row
    return found


def _reports(subresource: str, noun: str, action: str, root: str) -> dict[Key, Spec]:
    get, put, remove = unconfigured.reports(root, noun)
    rows = _document(
        *(subresource, f"Bucket{noun}", get, put, remove), action=action, parameters=("id",)
    )
    at = key("GET", BUCKET, subresource)
    parameters = ("id", "continuation-token")
    rows[at] = spec(f"ListBucket{noun}s", get, f"Get{action}", *parameters)
    return rows


_DOCUMENTS: Final[Table] = {
    **_document(
        "versioning", "BucketVersioning", versioning.get_versioning, versioning.put_versioning
    ),
    **_document(
        *("policy", "BucketPolicy", policy.get_policy, policy.put_policy, policy.delete_policy),
        body_bytes_max=policy.POLICY_BYTES_MAX,
    ),
    **_document("policyStatus", "BucketPolicyStatus", policy.get_policy_status),
    **_document(
        *("publicAccessBlock", "PublicAccessBlock", public_access.get_public_access_block),
        *(public_access.put_public_access_block, public_access.delete_public_access_block),
        action="BucketPublicAccessBlock",
    ),
    **_document(
        *("ownershipControls", "BucketOwnershipControls", ownership.get_ownership_controls),
        *(ownership.put_ownership_controls, ownership.delete_ownership_controls),
    ),
    **_document(
        *("acl", "BucketAcl", bucket_acl.get_bucket_acl, bucket_acl.put_bucket_acl),
        headers=acl.HEADERS,
    ),
    **_document(
        *("cors", "BucketCors", cors.get_cors, cors.put_cors, cors.delete_cors),
        action="BucketCORS",
    ),
    **_document(
        *("tagging", "BucketTagging", tagging.get_tagging, tagging.put_tagging),
        tagging.delete_tagging,
    ),
    **_document(
        *("encryption", "BucketEncryption", encryption.get_encryption, encryption.put_encryption),
        encryption.delete_encryption,
        action="EncryptionConfiguration",
    ),
    **_document(
        *("lifecycle", "BucketLifecycleConfiguration", lifecycle.get_lifecycle),
        *(lifecycle.put_lifecycle, lifecycle.delete_lifecycle),
        action="LifecycleConfiguration",
    ),
    **_document(
        *("object-lock", "ObjectLockConfiguration", lock.get_object_lock, lock.put_object_lock),
        action="BucketObjectLockConfiguration",
    ),
    **_document(
        *("notification", "BucketNotificationConfiguration", notification.get_notification),
        notification.put_notification,
        action="BucketNotification",
    ),
    **_document(
        *("website", "BucketWebsite", website.get_website, website.put_website),
        website.delete_website,
    ),
    **_document(
        *("requestPayment", "BucketRequestPayment", unconfigured.get_request_payment),
        unconfigured.put_request_payment,
    ),
    **_document(
        *("accelerate", "BucketAccelerateConfiguration", unconfigured.get_acceleration),
        unconfigured.put_acceleration,
        action="AccelerateConfiguration",
    ),
    **_document("logging", "BucketLogging", unconfigured.get_logging, unconfigured.put_logging),
    **_document("abac", "BucketAbac", unconfigured.get_abac, unconfigured.put_abac),
    **_document(
        *("replication", "BucketReplication", unconfigured.get_replication),
        *(unconfigured.put_replication, unconfigured.delete_replication),
        action="ReplicationConfiguration",
    ),
    **_reports(
        *("analytics", "AnalyticsConfiguration", "AnalyticsConfiguration"),
        "ListBucketAnalyticsConfigurationResult",
    ),
    **_reports(
        *("inventory", "InventoryConfiguration", "InventoryConfiguration"),
        "ListInventoryConfigurationsResult",
    ),
    **_reports(
        *("metrics", "MetricsConfiguration", "MetricsConfiguration"),
        "ListMetricsConfigurationsResult",
    ),
    **_reports(
        *("intelligent-tiering", "IntelligentTieringConfiguration"),
        *("IntelligentTieringConfiguration", "ListBucketIntelligentTieringConfigurationsOutput"),
    ),
}

TABLE: Final[Table] = {
    key("GET", SERVICE): spec(
        *("ListBuckets", bucket.list_buckets, "ListAllMyBuckets"),
        *("prefix", "continuation-token", "max-buckets", "bucket-region"),
        late=True,
    ),
    key("PUT", BUCKET): spec(
        *("CreateBucket", bucket.create_bucket, "CreateBucket"),
        body_bytes_max=XML,
        headers=acl.HEADERS | {bucket.LOCK_HEADER, ownership.HEADER},
    ),
    key("DELETE", BUCKET): spec("DeleteBucket", bucket.delete_bucket, "DeleteBucket"),
    key("HEAD", BUCKET): spec("HeadBucket", bucket.head_bucket, "ListBucket"),
    key("GET", BUCKET, "location"): spec(
        "GetBucketLocation", bucket.get_bucket_location, "GetBucketLocation"
    ),
    key("GET", BUCKET): spec("ListObjects", listing.list_objects, "ListBucket", *_LIST, "marker"),
    key("GET", BUCKET, "versions"): spec(
        *("ListObjectVersions", listing.list_object_versions, "ListBucketVersions"),
        *(*_LIST, "key-marker", "version-id-marker"),
    ),
    key("GET", BUCKET, "uploads"): spec(
        *("ListMultipartUploads", multipart.list_uploads, "ListBucketMultipartUploads"),
        *("prefix", "delimiter", "max-uploads", "encoding-type"),
        *("key-marker", "upload-id-marker"),
    ),
    key("POST", BUCKET, "delete"): spec(
        "DeleteObjects", delete.delete_objects, "DeleteObject", body_bytes_max=XML, late=True
    ),
    **_DOCUMENTS,
}
