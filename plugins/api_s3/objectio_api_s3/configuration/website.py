"""A bucket as a static website: its configuration (S3 user guide, "Hosting a static website")."""

from __future__ import annotations

import re
from typing import Any, Final

from objectio.model.bucket import Document
from objectio_api_s3.configuration import schema
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node
from objectio_api_s3.request import Call, Reply, xml_reply
from objectio_api_s3.xml import element, optional

NAME: Final = "website"

_RULES_MAX: Final = 50
_PROTOCOLS: Final = ("http", "https")
# They become part of a Location header: nothing that ends it, or begins another part of the URL.
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,255}(?::\d{1,5})?")


class Redirect(Document, frozen=True):
    """What differs from the URL that was asked for. `key` None leaves it, else all of it is replaced,
    or only the prefix of the condition."""

    protocol: str = ""
    host: str = ""
    code: int = 301
    code_given: bool = False
    key: str | None = None
    prefix: str | None = None


class RoutingRule(Document, frozen=True):
    """`prefix` of the key and `error`, the status it would be, must both fit where they are given."""

    redirect: Redirect
    prefix: str = ""
    error: int = 0
    conditional: bool = False


class Website(Document, frozen=True):
    """Either `everything` is redirected, or there is an `index`."""

    index: str = ""
    error: str = ""
    rules: tuple[RoutingRule, ...] = ()
    everything: Redirect | None = None


def parse_website(root: Node) -> Website:
    schema.check(root, "RedirectAllRequestsTo", "IndexDocument", "ErrorDocument", "RoutingRules")
    whole = root.child("RedirectAllRequestsTo")
    if whole is not None:
        if len(root.children) > 1:
            refuse("MalformedXML")
        schema.check(whole, "HostName", "Protocol")
        return Website(everything=_parse_target(whole, host_needed=True))
    given = root.child("IndexDocument")
    if given is None:
        refuse("InvalidArgument", "A value for IndexDocument Suffix must be provided")
    suffix = schema.text(schema.check(given, "Suffix"), "Suffix")
    if not suffix or "/" in suffix:
        refuse("InvalidArgument", "The IndexDocument Suffix is not well formed")
    failed = root.child("ErrorDocument")
    error = "" if failed is None else schema.need_text(schema.check(failed, "Key"), "Key")
    listed = root.child("RoutingRules")
    nodes = [] if listed is None else schema.check(listed, "RoutingRule").children
    if len(nodes) > _RULES_MAX:
        refuse("InvalidRequest", f"There may be up to {_RULES_MAX} routing rules")
    return Website(index=suffix, error=error, rules=tuple(_parse_rule(node) for node in nodes))


def _parse_target(node: Node, *, host_needed: bool = False) -> Redirect:
    host = schema.text(node, "HostName")
    if (host or host_needed) and _HOST.fullmatch(host) is None:
        refuse("InvalidArgument", "The HostName is not well formed")
    protocol = schema.text(node, "Protocol").strip()
    if protocol and protocol not in _PROTOCOLS:
        refuse("InvalidRequest", "Invalid protocol, protocol can be http or https.")
    return Redirect(protocol=protocol, host=host)


def _parse_rule(node: Node) -> RoutingRule:
    schema.check(node, "Condition", "Redirect")
    prefix, error = "", 0
    condition = node.child("Condition")
    if condition is not None:
        schema.check(condition, "KeyPrefixEquals", "HttpErrorCodeReturnedEquals")
        if not condition.children:
            refuse("MalformedXML")
        prefix = schema.text(condition, "KeyPrefixEquals")
        error = schema.number(condition, "HttpErrorCodeReturnedEquals") or 0
        if error and not 400 <= error < 600:
            refuse("InvalidArgument", "The HTTP error code is not one")
    given = schema.need(node, "Redirect")
    schema.check(
        *(given, "HostName", "Protocol", "HttpRedirectCode"),
        *("ReplaceKeyPrefixWith", "ReplaceKeyWith"),
    )
    if not given.children:
        refuse("MalformedXML")
    target = _parse_target(given)
    code = schema.number(given, "HttpRedirectCode")
    if code is not None and code not in (301, 302, 303, 304, 307, 308):
        refuse("InvalidRequest", "The provided HTTP redirect code is not valid.")
    replaced: dict[str, Any] = {}
    for name, at in (("ReplaceKeyWith", "key"), ("ReplaceKeyPrefixWith", "prefix")):
        if given.child(name) is not None:
            replaced[at] = schema.text(given, name)
    if len(replaced) == 2:
        refuse(
            "InvalidRequest",
            "You can only define ReplaceKeyPrefix or ReplaceKey but not both.",
        )
    redirect = Redirect(
        protocol=target.protocol,
        host=target.host,
        code=code or 301,
        code_given=code is not None,
        **replaced,
    )
    return RoutingRule(
        redirect=redirect, prefix=prefix, error=error, conditional=condition is not None
    )


def show_website(website: Website) -> str:
    if website.everything is not None:
        whole = website.everything
        inner = element("HostName", whole.host) + optional("Protocol", whole.protocol)
        return f"<RedirectAllRequestsTo>{inner}</RedirectAllRequestsTo>"
    shown = f"<IndexDocument>{element('Suffix', website.index)}</IndexDocument>"
    if website.error:
        shown += f"<ErrorDocument>{element('Key', website.error)}</ErrorDocument>"
    rules = "".join(_show_rule(rule) for rule in website.rules)
    return shown + (f"<RoutingRules>{rules}</RoutingRules>" if rules else "")


def _show_rule(rule: RoutingRule) -> str:
    shown = ""
    if rule.conditional:
        prefix = rule.prefix if rule.prefix or not rule.error else None
        inner = "" if prefix is None else element("KeyPrefixEquals", prefix)
        if rule.error:
            inner += element("HttpErrorCodeReturnedEquals", str(rule.error))
        shown += f"<Condition>{inner}</Condition>"
    redirect = rule.redirect
    inner = optional("Protocol", redirect.protocol) + optional("HostName", redirect.host)
    if redirect.prefix is not None:
        inner += element("ReplaceKeyPrefixWith", redirect.prefix)
    if redirect.key is not None:
        inner += element("ReplaceKeyWith", redirect.key)
    if redirect.code_given:
        inner += element("HttpRedirectCode", str(redirect.code))
    return f"<RoutingRule>{shown}<Redirect>{inner}</Redirect></RoutingRule>"


async def get_website(call: Call) -> Reply:
    found = await schema.load_or_refuse(call, NAME, Website, "NoSuchWebsiteConfiguration")
    return xml_reply("WebsiteConfiguration", show_website(found))


async def put_website(call: Call) -> Reply:
    made = parse_website(await schema.read(call, "WebsiteConfiguration"))
    return await schema.save(call, NAME, made)


async def delete_website(call: Call) -> Reply:
    return await schema.remove(call, NAME)
