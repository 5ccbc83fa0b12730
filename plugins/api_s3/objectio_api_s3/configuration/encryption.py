"""Default encryption: what a write gets that asks for none."""

from __future__ import annotations

from typing import Final, Literal, cast

from objectio.model.bucket import ENCRYPTION, DefaultEncryption
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element, optional

_METHODS: Final = ("AES256", "aws:kms", "aws:kms:dsse")


async def get_encryption(call: Call) -> Reply:
    found = await schema.load_or_refuse(
        *(call, ENCRYPTION, DefaultEncryption),
        "ServerSideEncryptionConfigurationNotFoundError",
    )
    shown = element("SSEAlgorithm", found.method) + optional("KMSMasterKeyID", found.key_id)
    return xml_reply(
        "ServerSideEncryptionConfiguration",
        f"<Rule><ApplyServerSideEncryptionByDefault>{shown}</ApplyServerSideEncryptionByDefault>"
        f"{element('BucketKeyEnabled', str(found.bucket_key).lower())}</Rule>",
    )


async def put_encryption(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "ServerSideEncryptionConfiguration"), "Rule")
    rule = schema.need(root, "Rule")
    schema.check(rule, "ApplyServerSideEncryptionByDefault", "BucketKeyEnabled")
    default = schema.need(rule, "ApplyServerSideEncryptionByDefault")
    schema.check(default, "SSEAlgorithm", "KMSMasterKeyID")
    method = schema.choice(default, "SSEAlgorithm", _METHODS)
    key_id = schema.text(default, "KMSMasterKeyID")
    if key_id and method == "AES256":
        refuse(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
            ArgumentName="KMSMasterKeyID",
        )
    made = DefaultEncryption(
        method=cast("Literal['AES256', 'aws:kms', 'aws:kms:dsse']", method),
        key_id=key_id,
        bucket_key=schema.boolean(rule, "BucketKeyEnabled"),
    )
    return await schema.save(call, ENCRYPTION, made)


async def delete_encryption(call: Call) -> Reply:
    return await schema.remove(call, ENCRYPTION)
