"""The operations on objects and uploads: method and sub-resources to what is done."""

from __future__ import annotations

from typing import Final

from objectio_api_s3 import acl, locks, sse
from objectio_api_s3.operations import (
    attributes,
    copy,
    delete,
    locking,
    multipart,
    object_acl,
    post,
    tagging,
)
from objectio_api_s3.operations import object as objects
from objectio_api_s3.request import Handler, Spec
from objectio_api_s3.routes import BUCKET, OBJECT, XML, Key, Table, key, spec

_OVERRIDES: Final = (
    *("response-cache-control", "response-content-disposition", "response-content-encoding"),
    *("response-content-language", "response-content-type", "response-expires"),
)
_WRITE: Final = (
    acl.HEADERS
    | locks.HEADERS
    | sse.WRITE_HEADERS
    | {b"x-amz-tagging", b"x-amz-website-redirect-location"}
)
_CONDITIONS: Final = frozenset((b"x-amz-if-match-last-modified-time", b"x-amz-if-match-size"))

_GET_OBJECT: Final = spec(
    *("GetObject", objects.get_object, "GetObject"),
    *("versionId", "partNumber", *_OVERRIDES),
    version_action="s3:GetObjectVersion",
    headers=sse.WRITE_HEADERS,
)
_HEAD_OBJECT: Final = spec(
    *("HeadObject", objects.head_object, "GetObject"),
    *("versionId", "partNumber", *_OVERRIDES),
    version_action="s3:GetObjectVersion",
    headers=sse.WRITE_HEADERS,
)
COPY: Final = spec(
    *("CopyObject", copy.copy_object, "PutObject"),
    copies=True,
    headers=_WRITE | sse.SOURCE_HEADERS,
)
POST: Final = spec("PostObject", post.post_object, "PutObject", payload=True, late=True)
COPY_PART: Final = spec(
    *("UploadPartCopy", copy.copy_part, "PutObject", "uploadId", "partNumber"),
    copies=True,
    headers=sse.CUSTOMER_HEADERS | sse.SOURCE_HEADERS,
)


def _sub(
    method: str, name: str, handler: Handler, subresource: str, action: str, **more: object
) -> tuple[Key, Spec]:
    """A row about a part of what is known of an object. With a version another action is needed."""
    verb = next(verb for verb in ("Get", "Put", "Delete") if action.startswith(verb))
    about = action.removeprefix(f"{verb}Object")
    more.setdefault("version_action", f"s3:{verb}ObjectVersion{about}")
    if method == "PUT":
        more["body_bytes_max"] = XML
    row = spec(name, handler, action, "versionId", **more)
    return key(method, OBJECT, subresource), row


_SUBRESOURCES: Final[Table] = dict(
    (
        _sub("GET", "GetObjectAcl", object_acl.get_object_acl, "acl", "GetObjectAcl"),
        _sub(
            *("PUT", "PutObjectAcl", object_acl.put_object_acl, "acl", "PutObjectAcl"),
            headers=acl.HEADERS,
        ),
        _sub(
            *("GET", "GetObjectTagging", tagging.get_object_tagging),
            *("tagging", "GetObjectTagging"),
        ),
        _sub(
            *("PUT", "PutObjectTagging", tagging.put_object_tagging),
            *("tagging", "PutObjectTagging"),
            late=True,
        ),
        _sub(
            *("DELETE", "DeleteObjectTagging", tagging.delete_object_tagging),
            *("tagging", "DeleteObjectTagging"),
        ),
        _sub(
            *("GET", "GetObjectRetention", locking.get_object_retention),
            *("retention", "GetObjectRetention"),
            version_action="",
        ),
        _sub(
            *("PUT", "PutObjectRetention", locking.put_object_retention),
            *("retention", "PutObjectRetention"),
            version_action="",
            late=True,
        ),
        _sub(
            *("GET", "GetObjectLegalHold", locking.get_object_legal_hold),
            *("legal-hold", "GetObjectLegalHold"),
            version_action="",
        ),
        _sub(
            *("PUT", "PutObjectLegalHold", locking.put_object_legal_hold),
            *("legal-hold", "PutObjectLegalHold"),
            version_action="",
            late=True,
        ),
        _sub(
            *("GET", "GetObjectTorrent", objects.get_object_torrent),
            *("torrent", "GetObjectTorrent"),
        ),
        _sub(
            *("GET", "GetObjectAttributes", attributes.get_object_attributes),
            *("attributes", "GetObjectAttributes"),
            also="s3:GetObject",
            version_also="s3:GetObjectVersion",
            headers=sse.CUSTOMER_HEADERS,
        ),
    )
)

TABLE: Final[Table] = {
    key("POST", BUCKET): POST,
    **_SUBRESOURCES,
    key("GET", OBJECT): _GET_OBJECT,
    key("GET", OBJECT, "partNumber"): _GET_OBJECT,
    key("HEAD", OBJECT): _HEAD_OBJECT,
    key("HEAD", OBJECT, "partNumber"): _HEAD_OBJECT,
    key("PUT", OBJECT): spec(
        "PutObject", objects.put_object, "PutObject", payload=True, headers=_WRITE
    ),
    key("DELETE", OBJECT): spec(
        *("DeleteObject", delete.delete_object, "DeleteObject", "versionId"),
        version_action="s3:DeleteObjectVersion",
        headers=_CONDITIONS,
        bypass=True,
    ),
    key("POST", OBJECT, "uploads"): spec(
        "CreateMultipartUpload", multipart.create_upload, "PutObject", headers=_WRITE
    ),
    key("PUT", OBJECT, "uploadId", "partNumber"): spec(
        *("UploadPart", multipart.upload_part, "PutObject", "uploadId", "partNumber"),
        payload=True,
        headers=sse.WRITE_HEADERS,
    ),
    key("POST", OBJECT, "uploadId"): spec(
        *("CompleteMultipartUpload", multipart.complete_upload, "PutObject", "uploadId"),
        body_bytes_max=XML,
        headers=sse.WRITE_HEADERS,
    ),
    key("DELETE", OBJECT, "uploadId"): spec(
        "AbortMultipartUpload", multipart.abort_upload, "AbortMultipartUpload", "uploadId"
    ),
    key("GET", OBJECT, "uploadId"): spec(
        *("ListParts", multipart.list_parts, "ListMultipartUploadParts", "uploadId"),
        *("max-parts", "part-number-marker"),
    ),
}
