"""The policy of a bucket: kept as the text that was sent."""

from __future__ import annotations

from typing import Final

from objectio.errors import AccessDenied, InvalidRequest
from objectio.iam.policy import Policy
from objectio.iam.public import is_public_acl, is_public_policy
from objectio.model.bucket import (
    ACL,
    POLICY,
    PUBLIC_ACCESS,
    Acl,
    PublicAccessBlock,
    decode_document,
)
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.xml import element

POLICY_BYTES_MAX: Final = 20 * 1024  # S3 user guide, "Bucket policies"


def _parse(raw: bytes, bucket: str) -> Policy:
    try:
        return Policy.parse(raw, kind="resource", bucket=bucket)
    except InvalidRequest as error:
        refuse("MalformedPolicy", error.message)


async def get_policy(call: Call) -> Reply:
    raw = await schema.load_raw(call, POLICY)
    if raw is None:
        refuse("NoSuchBucketPolicy", BucketName=call.op.bucket)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
    return Reply(200, headers, raw)


async def put_policy(call: Call) -> Reply:
    raw = await call.read_document()
    bucket = await schema.find_bucket(call)
    policy = _parse(raw, bucket.name)
    documents = await call.context.objects.get_documents(bucket)
    raw_block = documents.get(PUBLIC_ACCESS)
    block = None if raw_block is None else decode_document(raw_block, PublicAccessBlock)
    if block is not None and block.block_policy and is_public_policy(policy):
        raise AccessDenied("public policies are blocked", reason="AccessDenied")
    await call.context.objects.put_document(bucket.name, POLICY, raw, judged=bucket)
    return empty_reply(204)


async def delete_policy(call: Call) -> Reply:
    return await schema.remove(call, POLICY)


async def get_policy_status(call: Call) -> Reply:
    """Whether policy or ACL make the bucket public; false where there is no policy, other than on
    AWS, where that is an error."""
    bucket = await schema.find_bucket(call)
    documents = await call.context.objects.get_documents(bucket)
    policy, grants = documents.get(POLICY), documents.get(ACL)
    public = policy is not None and is_public_policy(_parse(policy, bucket.name))
    if not public and grants is not None:
        public = is_public_acl(decode_document(grants, Acl))
    return xml_reply("PolicyStatus", element("IsPublic", str(public).lower()))
