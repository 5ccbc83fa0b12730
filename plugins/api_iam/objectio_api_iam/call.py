"""One call: who asks, for what, of whom."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeVar

from objectio.abc.api import ApiContext, Identity, Request, Wanted
from objectio.errors import NotFound
from objectio.iam.admin import Group, IdentityAdmin, User
from objectio_api_iam.errors import Refusal
from objectio_api_iam.form import Form
from objectio_api_iam.oidc import TokenVerifier
from objectio_api_iam.xml import Value

ITEMS_DEFAULT: Final = 100
ITEMS_MAX: Final = 1_000
_NAME: Final = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_PATH: Final = re.compile(r"/(?:[!-~]{1,510}/)?")

Service = Literal["iam", "sts"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Call:
    context: ApiContext
    admin: IdentityAdmin
    verifier: TokenVerifier
    request: Request
    form: Form
    action: str

    @property
    def identity(self) -> Identity:
        return self.request.identity

    @property
    def account(self) -> str:
        return self.identity.account

    def name(self, parameter: str) -> str:
        """A name, which becomes part of an ARN before anybody else looks at it."""
        name = self.form.need(parameter)
        if not _NAME.fullmatch(name):
            raise Refusal(
                "ValidationError",
                f"The specified value for {parameter} is invalid. It must contain only "
                "alphanumeric characters and/or the following: +=,.@_-",
            )
        return name

    def path(self, parameter: str = "Path") -> str:
        path = self.form.get(parameter, "/") or "/"
        if not _PATH.fullmatch(path):
            raise Refusal("ValidationError", f"The specified value for {parameter} is invalid.")
        return path

    def path_prefix(self) -> str:
        return self.form.get("PathPrefix", "/") or "/"

    def user(self) -> str:
        """The user who is named, or else the caller; "" is the account's root."""
        if "UserName" in self.form:
            return self.name("UserName")
        if self.identity.is_account_root:
            return ""
        if ":user/" not in self.identity.arn:
            raise Refusal(
                "ValidationError", "Must specify userName when calling with non-User credentials"
            )
        return self.identity.name

    def arn(self, kind: str, name: str, path: str = "/") -> str:
        return f"arn:aws:iam::{self.account}:{kind}{path}{name}"

    def page(
        self, items: Sequence[_T], key: Callable[[_T], str] = str
    ) -> tuple[Sequence[_T], Value]:
        """The part of `items` that was asked for, and what says so. They are sorted by `key`, without
        regard to case as all names of IAM."""
        count = self.form.number("MaxItems", ITEMS_DEFAULT)
        if not 1 <= count <= ITEMS_MAX:
            raise Refusal("ValidationError", f"MaxItems is 1 to {ITEMS_MAX}.")
        marker = _order(self.form.get("Marker"))
        rest = sorted(
            (item for item in items if _order(key(item)) > marker),
            key=lambda item: _order(key(item)),
        )
        shown = rest[:count]
        if len(rest) > count:
            return shown, {"IsTruncated": True, "Marker": key(shown[-1])}
        return shown, {"IsTruncated": False}


def _order(name: str) -> tuple[str, str]:
    return name.lower(), name


Handler = Callable[[Call], Awaitable[Value | None]]
Resource = Callable[[Call], Awaitable[str]]


class Route(NamedTuple):
    """An action. `resource` names what it is about, and the gate is asked for that before `answer`
    is called; without one, `answer` decides itself who may. `anonymous` needs no signature."""

    service: Service
    answer: Handler
    resource: Resource | None
    anonymous: bool = False


async def resolve(call: Call, kind: str, name: str, found: Callable[[], Awaitable[Any]]) -> str:
    """The ARN of what there is, with its path; of what there is not, one like it: who may not ask
    learns from neither whether it exists."""
    try:
        return str((await found()).arn)
    except NotFound:
        return call.arn(kind, name)


async def user_arn(call: Call) -> str:
    name = call.user()
    if not name:
        return f"arn:aws:iam::{call.account}:root"
    return await resolve(call, "user", name, lambda: call.admin.get_user(call.account, name))


async def role_arn(call: Call) -> str:
    name = call.name("RoleName")
    return await resolve(call, "role", name, lambda: call.admin.get_role(call.account, name))


async def group_arn(call: Call) -> str:
    name = call.name("GroupName")
    try:
        group, _ = await call.admin.get_group(call.account, name)
    except NotFound:
        return call.arn("group", name)
    return group.arn


async def authorize_rename(
    call: Call, kind: Literal["user", "group"], find: Callable[[], Awaitable[User | Group]]
) -> tuple[str, str]:
    """The new name and path, "" for those that stay. Policies name users by their ARNs, so whoever
    renames one must be allowed to do so with what it is and with what it becomes (IAM API
    reference, UpdateUser): else a user would become another one whose rights are still written
    somewhere."""
    title = f"New{kind.capitalize()}Name"
    new_name = call.name(title) if title in call.form else ""
    new_path = call.path("NewPath") if "NewPath" in call.form else ""
    former = await find()
    becomes = call.arn(kind, new_name or former.name, new_path or former.path)
    if becomes != former.arn:
        await call.request.trust(Wanted(f"iam:{call.action}", becomes))
    return new_name, new_path


def tag_values(tags: Mapping[str, str]) -> dict[str, Sequence[str]]:
    values: dict[str, Sequence[str]] = {
        f"aws:RequestTag/{key}": (value,) for key, value in tags.items()
    }
    if tags:
        values["aws:TagKeys"] = tuple(tags)
    return values


async def conditions(call: Call, resource: str) -> Mapping[str, Sequence[str]]:
    """What the request says of itself to policies (IAM user guide, "IAM and AWS STS condition context
    keys"): a denial that asks for what is not there would deny nothing."""
    form = call.form
    found = tag_values(form.tags())
    if gone := form.texts("TagKeys"):
        found["aws:TagKeys"] = tuple(gone)
    if "PolicyArn" in form:
        found["iam:PolicyARN"] = (form.get("PolicyArn"),)
    for key, value in (await _tags_of(call, resource)).items():
        found[f"aws:ResourceTag/{key}"] = found[f"iam:ResourceTag/{key}"] = (value,)
    return found


async def _tags_of(call: Call, resource: str) -> Mapping[str, str]:
    kind, _, path = resource.split(":", 5)[-1].partition("/")
    name = path.rpartition("/")[2]
    with contextlib.suppress(NotFound):
        if kind == "user":
            return (await call.admin.get_user(call.account, name)).tags
        if kind == "role":
            return (await call.admin.get_role(call.account, name)).tags
    return {}


def given_arn(parameter: str) -> Resource:
    """What the caller names by its ARN. One of another account is refused by who answers."""

    async def resource(call: Call) -> str:
        return call.form.need(parameter)

    return resource


def everything(kind: str) -> Resource:
    async def resource(call: Call) -> str:
        return call.arn(kind, "*")

    return resource


def new(kind: str, parameter: str) -> Resource:
    async def resource(call: Call) -> str:
        return call.arn(kind, call.name(parameter), call.path())

    return resource
