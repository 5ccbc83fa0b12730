"""What a route is made of, for the table of them and for what answers them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec

from objectio.abc.api import ANONYMOUS, ApiContext, Identity, Wanted
from objectio.errors import InvalidRequest, NotFound, OperationNotImplemented
from objectio.iam.admin import IdentityAdmin
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID

PREFIX: Final = "/_admin"
ARN: Final = "arn:objectio:admin:::"
ELSEWHERE: Final = "elsewhere"
"""The reason of errors whose text says who could be asked instead."""
POLICY_ARN: Final = "iam:PolicyARN"
OSD: Final = "{osd}"
NAME: Final = "{name}"

_OSD_DIGITS_MAX: Final = 9
_PRINCIPAL: Final = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_POLICY_ARN: Final = re.compile(
    r"arn:aws:iam::(?:aws|[0-9]{12}):policy/(?:[\x21-\x7e]{1,510}/)?([\w+=,.@-]{1,128})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is below the prefix; a segment in braces is a name that the request has there, of a kind
    that `PARAMETERS` knows. `resource` is the end of the ARN, likewise. `answer` makes the value that
    is sent as JSON, out of what the context has by the name `asks`, and of the OSD, which is -1 where
    the path has none. One that asks for the whole `context` is given the `Order` in place of the OSD.
    `body` is what it takes as JSON, and `returns` the type of what it answers; `summary` says in a
    sentence what it does. One that `streams` answers with an asynchronous iterator, whose items are sent
    as events (WHATWG HTML, "Server-sent events"). `bearer`: a bearer token may stand in place of a
    signature."""

    method: str
    path: str
    action: str
    resource: str
    answer: Callable[[Any, Any], Awaitable[Any]]
    asks: Literal["admin", "cluster", "context", "watch"] = "admin"
    body: type[msgspec.Struct] | None = None
    returns: Any = None
    summary: str = ""
    streams: bool = False
    bearer: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """`names` are those in the path, by the words in its braces; `resource` is the end of the ARN."""

    route: Route
    resource: str
    osd: int = -1
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """The names in the path, of which `name` is the bucket's or account's, the body as the route says
    its type, and who asks: with which token, if by temporary credentials. `asked` is what the gate has
    allowed, and `trust` that of the request, for what it could not know and must be allowed too."""

    names: Mapping[str, str]
    body: Any
    identity: Identity = ANONYMOUS
    session_token: str = field(default="", repr=False)
    trust: Callable[[Wanted], Awaitable[None]] | None = None
    asked: Wanted | None = None

    @property
    def name(self) -> str:
        return self.names["name"]

    async def trust_policy(self, arn: str) -> None:
        """That it may be given or taken away, which policies may say of some only (IAM user guide,
        "IAM and AWS STS condition context keys"). Raises `AccessDenied`."""
        if self.trust is not None and self.asked is not None:
            await self.trust(self.asked._replace(conditions=lambda: {POLICY_ARN: (arn,)}))


class MalformedRequest(InvalidRequest):
    """A request that no state of the store would make right."""


# Names in paths: (the name, what stands for it in the ARN of the resource).

_Names = tuple[str, str]


def _osd(text: str) -> _Names:
    if not text.isdecimal() or not text.isascii() or len(text) > _OSD_DIGITS_MAX:
        raise NotFound("an OSD is named by its number", kind="osd")
    return str(int(text)), str(int(text))


def _plain(text: str) -> _Names:
    """An account or a bucket: nothing in it needs an escape, so none is taken."""
    if not text or not text.isprintable() or "%" in text:
        raise NotFound("this is no name", kind="path")
    return text, text


def _principal(text: str) -> _Names:
    name = unquote(text, errors="strict")
    if not _PRINCIPAL.fullmatch(name):
        raise NotFound("this is no name", kind="path")
    return name, name


def _policy(text: str) -> _Names:
    """By its name or its ARN, which are one resource to the gate."""
    name = unquote(text, errors="strict")
    arn = _POLICY_ARN.fullmatch(name)
    return (name, arn.group(1)) if arn else _principal(text)


PARAMETERS: Final[Mapping[str, Callable[[str], _Names]]] = {
    OSD: _osd,
    NAME: _plain,
    "{user}": _principal,
    "{group}": _principal,
    "{role}": _principal,
    "{key}": _principal,
    "{policy}": _policy,
    "{inline}": _principal,
    "{node}": _principal,
}


# What answers have in common.


def identities_of(context: ApiContext) -> IdentityAdmin:
    if context.identities is None:
        raise OperationNotImplemented("no identities are managed from this node", reason=ELSEWHERE)
    found: IdentityAdmin = context.identities
    return found


async def canonical_id_of(context: ApiContext, account: str) -> str:
    """That of an account. Raises `NotFound`."""
    if account == ROOT_ACCOUNT:
        return ROOT_CANONICAL_ID
    if context.identities is not None:
        for each in await identities_of(context).list_accounts():
            if each.id == account:
                return str(each.canonical_id)
    raise NotFound(f"there is no account {account}", kind="account")


async def account_of(context: ApiContext, order: Order) -> tuple[IdentityAdmin, str]:
    """Who manages it, and the account in the path, which there is."""
    await canonical_id_of(context, order.name)
    return identities_of(context), order.name
