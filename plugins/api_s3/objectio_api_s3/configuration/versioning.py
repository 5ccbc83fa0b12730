"""Versioning: switched on, and from then on only suspended."""

from __future__ import annotations

from typing import cast

from objectio.model.bucket import Versioning
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Reply, empty_reply, xml_reply
from objectio_api_s3.xml import optional

_STATUSES = ("Enabled", "Suspended")


async def get_versioning(call: Call) -> Reply:
    """Empty for a bucket whose versioning was never set."""
    bucket = await schema.find_bucket(call)
    return xml_reply("VersioningConfiguration", optional("Status", bucket.versioning))


async def put_versioning(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "VersioningConfiguration"), "Status", "MfaDelete")
    mfa = root.child("MfaDelete")
    if mfa is not None and schema.choice(root, "MfaDelete", ("Enabled", "Disabled")) == "Enabled":
        raise schema.not_built("MfaDelete")
    if root.child("Status") is None:
        refuse(
            "IllegalVersioningConfigurationException",
            "The Versioning element must be specified",
        )
    status = schema.choice(root, "Status", _STATUSES)
    await call.check_owner()
    await call.context.objects.set_versioning(call.op.bucket, cast("Versioning", status))
    return empty_reply()
