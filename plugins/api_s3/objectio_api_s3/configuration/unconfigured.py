"""Sub-resources that S3 has and nothing here acts upon: they answer as a bucket does that has them
not configured, and refuse to be configured otherwise."""

from __future__ import annotations

from typing import Final

from objectio.model.bucket import Document
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Call, Handler, Reply, empty_reply, xml_reply
from objectio_api_s3.xml import element, optional

ACCELERATION: Final = "acceleration"


class Acceleration(Document, frozen=True):
    status: str


async def get_request_payment(call: Call) -> Reply:
    await schema.find_bucket(call)
    return xml_reply("RequestPaymentConfiguration", element("Payer", "BucketOwner"))


async def put_request_payment(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "RequestPaymentConfiguration"), "Payer")
    payer = schema.choice(root, "Payer", ("BucketOwner", "Requester"))
    await schema.find_bucket(call)
    if payer == "Requester":
        raise schema.not_built("requester pays")
    return empty_reply()


async def get_acceleration(call: Call) -> Reply:
    found = await schema.load(call, ACCELERATION, Acceleration)
    return xml_reply(
        "AccelerateConfiguration", optional("Status", None if found is None else found.status)
    )


async def put_acceleration(call: Call) -> Reply:
    """There are no edge locations: it can be suspended, which it always was."""
    root = schema.check(await schema.read(call, "AccelerateConfiguration"), "Status")
    status = schema.choice(root, "Status", ("Enabled", "Suspended"))
    if status == "Enabled":
        await schema.find_bucket(call)
        raise schema.not_built("transfer acceleration")
    return await schema.save(call, ACCELERATION, Acceleration(status=status))


async def get_logging(call: Call) -> Reply:
    await schema.find_bucket(call)
    return xml_reply("BucketLoggingStatus", "")


async def put_logging(call: Call) -> Reply:
    """An empty status switches it off."""
    root = schema.check(await schema.read(call, "BucketLoggingStatus"), "LoggingEnabled")
    await schema.find_bucket(call)
    if root.children:
        raise schema.not_built("server access logging")
    return empty_reply()


async def get_abac(call: Call) -> Reply:
    await schema.find_bucket(call)
    return xml_reply("AbacStatus", element("Status", "Disabled"))


async def put_abac(call: Call) -> Reply:
    root = schema.check(await schema.read(call, "AbacStatus"), "Status")
    status = schema.choice(root, "Status", ("Enabled", "Disabled"))
    await schema.find_bucket(call)
    if status == "Enabled":
        raise schema.not_built("access control by the bucket's tags")
    return empty_reply()


async def get_replication(call: Call) -> Reply:
    await schema.find_bucket(call)
    refuse("ReplicationConfigurationNotFoundError", BucketName=call.op.bucket)


async def delete_replication(call: Call) -> Reply:
    await schema.find_bucket(call)
    return empty_reply(204)


def _refuses(what: str, root: str = "") -> Handler:
    """A handler of a change that is understood, and not built."""

    async def refuse_change(call: Call) -> Reply:
        if root:
            await schema.read(call, root)
        await schema.find_bucket(call)
        raise schema.not_built(what)

    return refuse_change


put_replication: Final = _refuses("replication", "ReplicationConfiguration")


def reports(root: str, configuration: str) -> tuple[Handler, Handler, Handler]:
    """GET (one or the list), PUT and DELETE of configurations that have ids: analytics, inventory,
    metrics, intelligent tiering."""

    async def get(call: Call) -> Reply:
        await schema.find_bucket(call)
        if "id" in call.op.query:
            refuse("NoSuchConfiguration")
        return xml_reply(root, element("IsTruncated", "false"))

    async def delete(call: Call) -> Reply:
        await schema.find_bucket(call)
        refuse("NoSuchConfiguration")

    return get, _refuses(configuration, configuration), delete
