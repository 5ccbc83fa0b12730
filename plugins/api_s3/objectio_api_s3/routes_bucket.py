"""The operations on the service and on buckets: method and sub-resources to what is done."""

from __future__ import annotations

from typing import Final

from objectio_api_s3.operations import bucket, delete, listing, multipart
from objectio_api_s3.routes import BUCKET, SERVICE, XML, Table, key, spec

_LIST: Final = ("prefix", "delimiter", "max-keys", "encoding-type")
LIST_V2: Final = spec(
    *("ListObjectsV2", listing.list_objects_v2, "ListBucket", "list-type"),
    *(*_LIST, "start-after", "continuation-token", "fetch-owner"),
)

TABLE: Final[Table] = {
    key("GET", SERVICE): spec(
        *("ListBuckets", bucket.list_buckets, "ListAllMyBuckets"),
        *("prefix", "continuation-token", "max-buckets", "bucket-region"),
    ),
    key("PUT", BUCKET): spec(
        "CreateBucket", bucket.create_bucket, "CreateBucket", body_bytes_max=XML
    ),
    key("DELETE", BUCKET): spec("DeleteBucket", bucket.delete_bucket, "DeleteBucket"),
    key("HEAD", BUCKET): spec("HeadBucket", bucket.head_bucket, "ListBucket"),
    key("GET", BUCKET, "location"): spec(
        "GetBucketLocation", bucket.get_bucket_location, "GetBucketLocation"
    ),
    key("GET", BUCKET, "versioning"): spec(
        "GetBucketVersioning", bucket.get_bucket_versioning, "GetBucketVersioning"
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
        "DeleteObjects", delete.delete_objects, "DeleteObject", body_bytes_max=XML
    ),
}
