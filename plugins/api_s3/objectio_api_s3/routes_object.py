"""The operations on objects and uploads: method and sub-resources to what is done."""

from __future__ import annotations

from typing import Final

from objectio_api_s3.operations import copy, delete, multipart
from objectio_api_s3.operations import object as objects
from objectio_api_s3.routes import OBJECT, XML, Table, key, spec

_OVERRIDES: Final = (
    *("response-cache-control", "response-content-disposition", "response-content-encoding"),
    *("response-content-language", "response-content-type", "response-expires"),
)
_GET_OBJECT: Final = spec(
    *("GetObject", objects.get_object, "GetObject"),
    *("versionId", "partNumber", *_OVERRIDES),
    version_action="s3:GetObjectVersion",
)
_HEAD_OBJECT: Final = spec(
    *("HeadObject", objects.head_object, "GetObject"),
    *("versionId", "partNumber", *_OVERRIDES),
    version_action="s3:GetObjectVersion",
)
COPY: Final = spec("CopyObject", copy.copy_object, "PutObject")


TABLE: Final[Table] = {
    key("GET", OBJECT): _GET_OBJECT,
    key("GET", OBJECT, "partNumber"): _GET_OBJECT,
    key("HEAD", OBJECT): _HEAD_OBJECT,
    key("HEAD", OBJECT, "partNumber"): _HEAD_OBJECT,
    key("PUT", OBJECT): spec("PutObject", objects.put_object, "PutObject", payload=True),
    key("DELETE", OBJECT): spec(
        *("DeleteObject", delete.delete_object, "DeleteObject", "versionId"),
        version_action="s3:DeleteObjectVersion",
    ),
    key("POST", OBJECT, "uploads"): spec(
        "CreateMultipartUpload", multipart.create_upload, "PutObject"
    ),
    key("PUT", OBJECT, "uploadId", "partNumber"): spec(
        *("UploadPart", multipart.upload_part, "PutObject", "uploadId", "partNumber"),
        payload=True,
    ),
    key("POST", OBJECT, "uploadId"): spec(
        *("CompleteMultipartUpload", multipart.complete_upload, "PutObject", "uploadId"),
        body_bytes_max=XML,
    ),
    key("DELETE", OBJECT, "uploadId"): spec(
        "AbortMultipartUpload", multipart.abort_upload, "AbortMultipartUpload", "uploadId"
    ),
    key("GET", OBJECT, "uploadId"): spec(
        *("ListParts", multipart.list_parts, "ListMultipartUploadParts", "uploadId"),
        *("max-parts", "part-number-marker"),
    ),
}
