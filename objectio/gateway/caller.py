"""One request as the guard sees it: who calls, from where, and what every request says for policies.

The values of condition keys are put together only if a policy asks for one. Names that begin with
"aws:" are only ever made here, out of what is known and not of what is claimed: the address is that of
the connection, or what a proxy says that was configured as trusted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from objectio.abc.api import FormCredentials, Identity, Request, Scope, Wanted
from objectio.errors import CredentialsMalformed
from objectio.iam.sigv4 import Signed
from objectio.iam.timestamps import parse_timestamp

if TYPE_CHECKING:
    from objectio.gateway.gate import Gate
    from objectio.gateway.guard import Judged

Headers = Mapping[bytes, bytes]
Network = IPv4Network | IPv6Network
ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Peer(NamedTuple):
    """Where a request comes from. `source_ip` is "" for a Unix socket."""

    source_ip: str
    secure: bool


def find_peer(scope: Scope, headers: Headers, proxies: Sequence[Network]) -> Peer:
    """X-Forwarded-For is read from its end, as far as it was written by proxies that are trusted."""
    client = scope.get("client")
    source = client[0] if client else ""
    secure = scope["scheme"] == "https"
    if not _is_trusted(source, proxies):
        return Peer(source, secure)
    for text in reversed(_words(headers.get(b"x-forwarded-for", b""))):
        address = _address(text)
        if address is None:
            break
        source = str(address)
        if not _is_trusted(source, proxies):
            break
    said = _words(headers.get(b"x-forwarded-proto", b""))
    return Peer(source, said[-1].lower() == "https" if said else secure)


def _words(value: bytes) -> list[str]:
    return [word for word in (part.strip() for part in value.decode("latin-1").split(",")) if word]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """With or without a port, as proxies write it."""
    text = text.strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_trusted(source: str, proxies: Sequence[Network]) -> bool:
    address = _address(source)
    if address is None:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in proxies)


class Caller:
    """`trust`, `act_as` and `judged` are those of the request."""

    __slots__ = (
        "_gate",
        "_headers",
        "_scope",
        "_signed",
        "auth_type",
        "identity",
        "judged",
        "peer",
    )

    def __init__(
        self,
        gate: Gate,
        scope: Scope,
        headers: Headers,
        identity: Identity,
        signed: Signed | None,
        peer: tuple[str, bool],
    ) -> None:
        self._gate = gate
        self._scope = scope
        self._headers = headers
        self._signed = signed
        self.identity = identity
        self.peer = Peer(*peer)
        self.judged: Judged = {}
        self.auth_type = ""
        if signed is not None:
            self.auth_type = "REST-QUERY-STRING" if signed.presigned else "REST-HEADER"

    async def trust(self, wanted: Wanted) -> None:
        """Raises `AccessDenied`."""
        await self._gate.judge(self, wanted)

    async def act_as(self, form: FormCredentials) -> None:
        """Raises `AccessError`."""
        if self._signed is not None:
            raise CredentialsMalformed(
                "Only one auth mechanism allowed: the form or the Authorization header",
                reason="InvalidArgument",
            )
        self.identity = await self._gate.authenticate_form(form)
        self.auth_type = "POST"
        request: Request = self._scope["objectio"]
        request.identity = self.identity

    def values(self) -> Mapping[str, Sequence[str]]:
        """The condition keys that every request has (IAM user guide, "AWS global condition context
        keys"; S3, "Actions, resources, and condition keys")."""
        now = self._gate.clock()
        found: dict[str, Sequence[str]] = {
            "aws:CurrentTime": (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),),
            "aws:EpochTime": (str(int(now)),),
            "aws:SecureTransport": ("true" if self.peer.secure else "false",),
            "aws:RequestedRegion": (self._gate.region,),
            "aws:PrincipalIsAWSService": ("false",),
            "aws:ViaAWSService": ("false",),
            # Ceph's: whether the credentials are temporary.
            "sts:authentication": ("true" if self.identity.session else "false",),
        }
        if self.peer.source_ip:
            found["aws:SourceIp"] = (self.peer.source_ip,)
        for key, name in _FROM_HEADERS.items():
            if name in self._headers:
                found[key] = (self._headers[name].decode("latin-1"),)
        found |= _principal(self.identity)
        if self.auth_type:
            found["s3:authType"] = (self.auth_type,)
            found["s3:signatureversion"] = (ALGORITHM,)
        if self._signed is not None:
            found["s3:x-amz-content-sha256"] = (self._signed.content_sha256.decode("latin-1"),)
            signed_at = parse_timestamp(self._signed.timestamp)
            if signed_at is not None:
                found["s3:signatureAge"] = (str(max(int((now - signed_at) * 1000), 0)),)
        return found


_FROM_HEADERS: Final = {"aws:UserAgent": b"user-agent", "aws:Referer": b"referer"}


def _principal(identity: Identity) -> dict[str, Sequence[str]]:
    if not identity.account:
        return {"aws:PrincipalType": ("Anonymous",), "aws:userid": ("anonymous",)}
    found: dict[str, Sequence[str]] = {
        "aws:PrincipalAccount": (identity.account,),
        "aws:PrincipalArn": (identity.role_arn or identity.arn,),
        "aws:userid": (identity.user_id,),
    }
    if identity.role_arn:
        found["aws:PrincipalType"] = ("AssumedRole",)
    elif identity.is_account_root:
        found["aws:PrincipalType"] = ("Account",)
    else:
        found["aws:PrincipalType"] = ("User",)
        found["aws:username"] = (identity.name,)
    for key, value in identity.tags.items():
        found[f"aws:PrincipalTag/{key}"] = (value,)
    return found


async def trust_root(wanted: Wanted) -> None:
    """The root may do anything."""
