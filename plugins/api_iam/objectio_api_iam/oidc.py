"""Web identity tokens (OpenID Connect Core 1.0 §2, §3.1.3.7; RFC 7519; RFC 8725).

A token is believed if its issuer is a provider of the role's account, its signature is by one of the
keys that the issuer shows, of a kind that fits the algorithm, and it was made for a client of that
provider and is still good. The algorithms are ours to choose, never the token's: no "none", nothing
symmetric. Keys are looked for where the provider's configured URL says, not where the token does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt

from objectio.iam.admin import Provider
from objectio_api_iam.errors import Refusal
from objectio_api_iam.fetch import Fetcher

TOKEN_CHARS_MAX: Final = 20_000  # STS API reference, AssumeRoleWithWebIdentity
KEYS_KEPT_SECONDS: Final = 600
KEYS_AGAIN_SECONDS: Final = 30
"""How soon an issuer is asked again for a key that it did not have, or after it did not answer."""
ISSUERS_KEPT_MAX: Final = 1_000
LEEWAY_SECONDS: Final = 60
TAGS_CLAIM: Final = "https://aws.amazon.com/tags"

_KEY_TYPES: Final[Mapping[str, str]] = {
    **{f"{family}{bits}": "RSA" for family in ("RS", "PS") for bits in (256, 384, 512)},
    **{f"ES{bits}": "EC" for bits in (256, 384, 512)},
    "EdDSA": "OKP",
}
_ALGORITHMS: Final = tuple(_KEY_TYPES)


class WebIdentity(NamedTuple):
    """What a token that was believed says."""

    provider: Provider
    subject: str
    audience: str
    claims: Mapping[str, Any]

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the session (IAM user guide, "Passing session tags using
        AssumeRoleWithWebIdentity")."""
        said = self.claims.get(TAGS_CLAIM, {})
        tags = said.get("principal_tags", {}) if isinstance(said, dict) else None
        if not isinstance(tags, dict) or (
            isinstance(said, dict) and said.get("transitive_tag_keys")
        ):
            raise Refusal("InvalidIdentityToken", f"The claim {TAGS_CLAIM} cannot be used.")
        found: dict[str, str] = {}
        for key, value in tags.items():
            values = value if isinstance(value, list) else [value]
            if len(values) != 1 or not isinstance(values[0], str):
                raise Refusal("InvalidIdentityToken", "A session tag has one value.")
            found[key] = values[0]
        return found

    def values(self) -> dict[str, Sequence[str]]:
        """The condition keys of the token: its claims, under the issuer's name."""
        host = self.provider.url.partition("://")[2].rstrip("/")
        found: dict[str, Sequence[str]] = {}
        for name, claim in self.claims.items():
            if name != name.lower() and name.lower() in self.claims:
                continue  # condition keys have no case, and "SUB" is not to stand for "sub"
            items = claim if isinstance(claim, list) else [claim]
            if items and all(isinstance(item, str | int | float) for item in items):
                found[f"{host}:{name}"] = tuple(_text(item) for item in items)
        return found


def _text(claim: str | float) -> str:
    return str(claim).lower() if isinstance(claim, bool) else str(claim)


class _Keys(NamedTuple):
    keys: Mapping[str, jwt.PyJWK]
    fetched: float


class TokenVerifier:
    def __init__(self, fetcher: Fetcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._issuers: dict[str, _Keys] = {}

    async def verify(self, token: str, providers: Sequence[Provider]) -> WebIdentity:
        """Raises `Refusal`."""
        if len(token) > TOKEN_CHARS_MAX:
            raise Refusal("InvalidIdentityToken", "The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise Refusal("InvalidIdentityToken") from None
        algorithm = str(header.get("alg", ""))
        if algorithm not in _KEY_TYPES:
            raise Refusal("InvalidIdentityToken", "The token is not signed as it must be.")
        provider = _find_provider(str(said.get("iss", "")), providers)
        key = await self._key(provider.url, str(header.get("kid", "")), algorithm)
        claims = _decode(token, key, algorithm, said, provider)
        return WebIdentity(provider, claims["sub"], _audience(claims, provider), claims)

    async def _key(self, url: str, key_id: str, algorithm: str) -> jwt.PyJWK:
        known = self._issuers.get(url)
        age = None if known is None else self._clock() - known.fetched
        key = None if known is None else known.keys.get(key_id)
        again = KEYS_AGAIN_SECONDS if key is None else KEYS_KEPT_SECONDS
        if age is None or age >= again:
            known = await self._fetch(url)
            key = known.keys.get(key_id)
        if key is None or not _fits(key, algorithm):
            raise Refusal("InvalidIdentityToken", "The token is signed by a key of nobody.")
        return key

    async def _fetch(self, url: str) -> _Keys:
        base = url.rstrip("/")
        found = _Keys({}, self._clock())
        try:
            metadata = await self._fetcher.fetch(f"{base}/.well-known/openid-configuration", url)
            # OpenID Connect Discovery 1.0 §4.3: else another's keys could be shown as one's own.
            if str(metadata.get("issuer", "")).rstrip("/") != base:
                raise Refusal("IDPCommunicationError", "The identity provider has another name.")
            shown = await self._fetcher.fetch(str(metadata.get("jwks_uri", "")), url)
            found = _Keys(_read_keys(shown), self._clock())
        finally:
            if len(self._issuers) >= ISSUERS_KEPT_MAX:
                self._issuers.clear()
            self._issuers[url] = found
        return found


def _read_keys(shown: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """Those that can be used; a set may have others."""
    found: dict[str, jwt.PyJWK] = {}
    keys = shown.get("keys")
    for item in keys if isinstance(keys, list) else ():
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        if item.get("kty") not in _KEY_TYPES.values() or "d" in item:
            continue
        try:
            found[str(item.get("kid", ""))] = jwt.PyJWK.from_dict(item)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
    return found


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """RFC 8725 §3.1: a key is for one algorithm, or at least for algorithms of its kind."""
    return key.key_type == _KEY_TYPES[algorithm] and (
        key.key_type != "EC" or key.algorithm_name == algorithm
    )


def _find_provider(issuer: str, providers: Sequence[Provider]) -> Provider:
    for provider in providers:
        if provider.url.rstrip("/") == issuer.rstrip("/"):
            return provider
    raise Refusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account.")


def _decode(
    token: str, key: jwt.PyJWK, algorithm: str, said: Mapping[str, Any], provider: Provider
) -> dict[str, Any]:
    try:
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=said["iss"],
            audience=list(provider.client_ids),
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "sub"], "verify_aud": "azp" not in said},
        )
    except jwt.ExpiredSignatureError:
        raise Refusal("ExpiredTokenException") from None
    except jwt.InvalidAudienceError:
        raise Refusal("InvalidIdentityToken", "Incorrect token audience") from None
    except jwt.PyJWTError:
        raise Refusal("InvalidIdentityToken") from None


def _audience(claims: Mapping[str, Any], provider: Provider) -> str:
    """For whom the token was made: the authorized party, where one is named."""
    if "azp" in claims:
        if claims["azp"] not in provider.client_ids:
            raise Refusal("InvalidIdentityToken", "Incorrect token audience")
        return str(claims["azp"])
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    return next(str(name) for name in audiences if name in provider.client_ids)
