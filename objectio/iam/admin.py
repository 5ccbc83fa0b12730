"""Managing identities: accounts, users, groups, roles, policies, keys, providers, sessions.

`IdentityAdmin` is what front ends are given as `ApiContext.identities`; who may call it has been
decided before. `account` is always its 12 digits. All calls are durable when they return and then
hold in this process; in the others of the cluster a moment later.

Errors are `NotFound` (kind account, user, group, role, policy, key, provider), `AlreadyExists`
(same kinds), `NotEmpty` where something else is to be deleted first, `InvalidRequest` (reason
ValidationError, LimitExceeded, MalformedPolicyDocument). Names are compared without regard to case,
as on AWS, and kept as they were given. Policy documents are texts; they are checked when they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from objectio.abc.api import Account, Identity

Kind = Literal["user", "group", "role"]
"""What policies may be given to, by name."""

USER_SESSION_SECONDS_MAX = 129_600
ROOT_SESSION_SECONDS_MAX = 3_600
ROLE_SESSION_SECONDS_MAX = 43_200
SESSION_SECONDS_MIN = 900
SERVICE_KEYS_MAX = 50
"""Of one user or root, besides those that give all it has."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is never used again ("AIDA…"). Paths begin and end with a slash."""

    account: str
    name: str
    path: str
    id: str
    created_ms: int
    tags: Mapping[str, str] = {}

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:user{self.path}{self.name}"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str
    path: str
    id: str
    created_ms: int

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:group{self.path}{self.name}"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """`trust_policy` says who may take it on."""

    account: str
    name: str
    path: str
    id: str
    created_ms: int
    trust_policy: str
    description: str = ""
    session_seconds_max: int = 3_600
    tags: Mapping[str, str] = {}

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role{self.path}{self.name}"


class ManagedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`account` is "aws" for those that are there from the beginning."""

    account: str
    name: str
    path: str
    id: str
    created_ms: int
    document: str
    description: str = ""

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:policy{self.path}{self.name}"


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Who issues tokens (OpenID Connect). `url` as it was given, with its scheme."""

    account: str
    url: str
    created_ms: int
    client_ids: Sequence[str] = ()
    thumbprints: Sequence[str] = ()
    tags: Mapping[str, str] = {}

    @property
    def arn(self) -> str:
        host_and_path = self.url.partition("://")[2].rstrip("/")
        return f"arn:aws:iam::{self.account}:oidc-provider/{host_and_path}"


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """`user` is the name of its user; "" is the root of the account.

    With a `policy` it is the key of a service account: who signs with it may do what that policy and
    those of the user both allow, and never more than the user, whatever becomes of the user's policies.
    `expires_ms` 0: it lasts. `description` is for people.
    """

    access_key: str
    account: str
    user: str
    active: bool
    created_ms: int
    policy: str = ""
    description: str = ""
    expires_ms: int = 0


class NewAccessKey(NamedTuple):
    """The only time that the secret is shown."""

    key: AccessKey
    secret_key: str

    def __repr__(self) -> str:
        return f"NewAccessKey({self.key.access_key})"


class TemporaryCredentials(NamedTuple):
    """`identity` is who uses them."""

    access_key: str
    secret_key: str
    session_token: str
    expires_ms: int
    identity: Identity

    def __repr__(self) -> str:
        return f"TemporaryCredentials({self.access_key})"


class BearerToken(NamedTuple):
    """What stands in place of a signature (RFC 6750)."""

    token: str
    expires_ms: int

    def __repr__(self) -> str:
        return f"BearerToken(expires_ms={self.expires_ms})"


class IdentityAdmin(Protocol):
    # Accounts.
    async def create_account(
        self,
        display_name: str,
        *,
        account: str = "",
        canonical_id: str = "",
        email: str = "",
        access_key: str = "",
        secret_key: str = "",
    ) -> tuple[Account, NewAccessKey]:
        """With one access key of its root. What is not given is made."""
        ...

    async def list_accounts(self) -> Sequence[Account]: ...

    async def delete_account(self, account: str) -> None:
        """Raises `NotEmpty` while it has users, groups, roles, policies or providers. The root's
        keys go with it. That it owns no buckets is for the caller to see to."""
        ...

    # Users.
    async def create_user(
        self, account: str, name: str, *, path: str = "/", tags: Mapping[str, str] = {}
    ) -> User: ...

    async def get_user(self, account: str, name: str) -> User: ...

    async def find_user(self, account: str, user_id: str) -> User:
        """By `User.id`, which is what `Identity.user_id` of a user says."""
        ...

    async def list_users(self, account: str, *, path_prefix: str = "/") -> Sequence[User]:
        """By name, as all lists."""
        ...

    async def update_user(
        self, account: str, name: str, *, new_name: str = "", new_path: str = ""
    ) -> User: ...

    async def delete_user(self, account: str, name: str) -> None:
        """Raises `NotEmpty` while it has keys or policies or is in a group."""
        ...

    # Groups.
    async def create_group(self, account: str, name: str, *, path: str = "/") -> Group: ...

    async def get_group(self, account: str, name: str) -> tuple[Group, Sequence[User]]: ...

    async def list_groups(self, account: str, *, path_prefix: str = "/") -> Sequence[Group]: ...

    async def update_group(
        self, account: str, name: str, *, new_name: str = "", new_path: str = ""
    ) -> Group: ...

    async def delete_group(self, account: str, name: str) -> None: ...

    async def add_to_group(self, account: str, group: str, user: str) -> None: ...

    async def remove_from_group(self, account: str, group: str, user: str) -> None: ...

    async def groups_of(self, account: str, user: str) -> Sequence[Group]: ...

    # Roles.
    async def create_role(
        self,
        account: str,
        name: str,
        trust_policy: str,
        *,
        path: str = "/",
        description: str = "",
        session_seconds_max: int = 3_600,
        tags: Mapping[str, str] = {},
    ) -> Role: ...

    async def get_role(self, account: str, name: str) -> Role: ...

    async def find_role(self, arn: str) -> Role:
        """Of any account."""
        ...

    async def list_roles(self, account: str, *, path_prefix: str = "/") -> Sequence[Role]: ...

    async def update_role(
        self,
        account: str,
        name: str,
        *,
        description: str | None = None,
        session_seconds_max: int | None = None,
        trust_policy: str | None = None,
    ) -> Role: ...

    async def delete_role(self, account: str, name: str) -> None: ...

    async def set_tags(self, account: str, kind: Kind, name: str, tags: Mapping[str, str]) -> None:
        """All tags of a user or role, in place of those that there are."""
        ...

    # Policies of users, groups and roles.
    async def put_policy(
        self, account: str, kind: Kind, name: str, policy: str, document: str
    ) -> None: ...

    async def get_policy(self, account: str, kind: Kind, name: str, policy: str) -> str: ...

    async def delete_policy(self, account: str, kind: Kind, name: str, policy: str) -> None: ...

    async def list_policies(self, account: str, kind: Kind, name: str) -> Sequence[str]: ...

    async def attach_policy(self, account: str, kind: Kind, name: str, arn: str) -> None:
        """No error where it is attached already; `NotFound` (kind policy) where there is none."""
        ...

    async def detach_policy(self, account: str, kind: Kind, name: str, arn: str) -> None:
        """`NotFound` where it is not attached."""
        ...

    async def attached_policies(
        self, account: str, kind: Kind, name: str
    ) -> Sequence[ManagedPolicy]: ...

    # Managed policies.
    async def create_managed_policy(
        self, account: str, name: str, document: str, *, path: str = "/", description: str = ""
    ) -> ManagedPolicy: ...

    async def get_managed_policy(self, account: str, arn: str) -> ManagedPolicy:
        """One of the account, or one that is there from the beginning."""
        ...

    async def list_managed_policies(
        self, account: str, *, path_prefix: str = "/"
    ) -> Sequence[ManagedPolicy]:
        """Those of the account."""
        ...

    async def delete_managed_policy(self, account: str, arn: str) -> None: ...

    # Access keys. `user` "" is the root of the account.
    async def create_access_key(
        self,
        account: str,
        user: str,
        *,
        access_key: str = "",
        secret_key: str = "",
        policy: str = "",
        description: str = "",
        expires_ms: int = 0,
    ) -> NewAccessKey:
        """Raises `InvalidRequest`: MalformedPolicyDocument, LimitExceeded (each may have two keys, and
        `SERVICE_KEYS_MAX` that are narrowed down), ValidationError."""
        ...

    async def list_access_keys(self, account: str, user: str) -> Sequence[AccessKey]: ...

    async def find_access_key(self, account: str, access_key: str) -> AccessKey:
        """Whosever it is in the account."""
        ...

    async def update_access_key(
        self, account: str, user: str, access_key: str, *, active: bool
    ) -> None: ...

    async def delete_access_key(self, account: str, user: str, access_key: str) -> None: ...

    # Providers of web identities.
    async def create_provider(
        self,
        account: str,
        url: str,
        *,
        client_ids: Sequence[str] = (),
        thumbprints: Sequence[str] = (),
        tags: Mapping[str, str] = {},
    ) -> Provider: ...

    async def get_provider(self, account: str, arn: str) -> Provider: ...

    async def list_providers(self, account: str) -> Sequence[Provider]: ...

    async def update_provider(
        self,
        account: str,
        arn: str,
        *,
        client_ids: Sequence[str] | None = None,
        thumbprints: Sequence[str] | None = None,
    ) -> Provider: ...

    async def delete_provider(self, account: str, arn: str) -> None: ...

    # Sessions. That the caller may is for the caller of these to decide.
    async def assume_role(
        self,
        role: Role,
        session: str,
        *,
        seconds: int = 3_600,
        policies: Sequence[str] = (),
        tags: Mapping[str, str] = {},
        keys: Mapping[str, Sequence[str]] = {},
        caller: Identity | None = None,
    ) -> TemporaryCredentials:
        """`policies` are documents that the session is narrowed down to, if there are any: all of
        them together are one more set that must allow. `tags` are added to those of the role.
        `keys` are condition keys that every request of the session has ("aws:FederatedProvider").
        `caller` is who takes it on, if it is one who signs: the limits of the caller's key are those of
        the session, which ends with the key.
        Raises `InvalidRequest` (ValidationError) for a time that the role does not give, and
        (PackedPolicyTooLarge) for more than a token holds."""
        ...

    async def issue_bearer(
        self, identity: Identity, audience: str, *, seconds: int = 900, session_token: str = ""
    ) -> BearerToken:
        """For who signs a request with the access key of `identity`, of which `session_token` is that
        of its session if it is one. Whoever shows the token to what has that audience is who signs
        with that key then, as long as the key is good, and no longer than `seconds`. Raises
        `InvalidRequest` (ValidationError) for a time that is none, `AccessDenied` for who has no key."""
        ...

    async def get_session_token(
        self, identity: Identity, *, seconds: int = 43_200
    ) -> TemporaryCredentials:
        """For a user or the root of an account; not for who is a session already. The limits of the key
        are those of the session, which ends with the key."""
        ...
