"""Inline policies: those that stand in a user, a group or a role itself, by a name of their own.

    GET   …/users/{user}/inline-policies
    GET   …/users/{user}/inline-policies/{inline}
    POST  …/users/{user}/inline-policies/{inline}  {"document": {…}}
    POST  …/users/{user}/inline-policies/{inline}/delete

and likewise of groups and roles. Putting one that is there already replaces it. Their names are told
apart by case, as on AWS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.iam.admin import Kind
from objectio_api_admin.policies import document_text
from objectio_api_admin.shapes import Order, Route, account_of
from objectio_api_admin.values import AccountId, Document, NewDocument


class InlineDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`document` is the policy, as an object or as a text that has one."""

    document: NewDocument


class InlinePolicyList(msgspec.Struct, frozen=True, kw_only=True):
    """`holder` is the name of the user, group or role, which `kind` says."""

    account: AccountId
    kind: Kind
    holder: str
    inline_policies: Sequence[str]


class InlinePolicy(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    kind: Kind
    holder: str
    name: str
    document: Document


class DeletedInlinePolicy(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    kind: Kind
    holder: str
    name: str


async def _list(kind: Kind, context: ApiContext, order: Order) -> InlinePolicyList:
    identities, account = await account_of(context, order)
    holder = order.names[kind]
    found = await identities.list_policies(account, kind, holder)
    return InlinePolicyList(account=account, kind=kind, holder=holder, inline_policies=found)


async def _get(kind: Kind, context: ApiContext, order: Order) -> InlinePolicy:
    identities, account = await account_of(context, order)
    holder, name = order.names[kind], order.names["inline"]
    document = await identities.get_policy(account, kind, holder, name)
    return InlinePolicy(
        account=account,
        kind=kind,
        holder=holder,
        name=name,
        document=msgspec.Raw(document.encode()),
    )


async def _put(kind: Kind, context: ApiContext, order: Order) -> InlinePolicy:
    identities, account = await account_of(context, order)
    wanted: InlineDocument = order.body
    await identities.put_policy(
        account, kind, order.names[kind], order.names["inline"], document_text(wanted.document)
    )
    return await _get(kind, context, order)


async def _delete(kind: Kind, context: ApiContext, order: Order) -> DeletedInlinePolicy:
    identities, account = await account_of(context, order)
    holder, name = order.names[kind], order.names["inline"]
    await identities.delete_policy(account, kind, holder, name)
    return DeletedInlinePolicy(account=account, kind=kind, holder=holder, name=name)


def _routes(kind: Kind) -> tuple[Route, ...]:
    path = f"/v1/accounts/{{name}}/{kind}s/{{{kind}}}/inline-policies"
    one, resource, shown = f"{path}/{{inline}}", f"account/{{name}}/{kind}/{{{kind}}}", kind.title()
    return (
        Route(
            "GET",
            path,
            f"List{shown}Policies",
            resource,
            partial(_list, kind),
            "context",
            returns=InlinePolicyList,
            summary=f"Lists the inline policies of a {kind}.",
        ),
        Route(
            "GET",
            one,
            f"Get{shown}Policy",
            resource,
            partial(_get, kind),
            "context",
            returns=InlinePolicy,
            summary=f"Shows an inline policy of a {kind}.",
        ),
        Route(
            "POST",
            one,
            f"Put{shown}Policy",
            resource,
            partial(_put, kind),
            "context",
            body=InlineDocument,
            returns=InlinePolicy,
            summary=f"Puts an inline policy into a {kind}, in place of one of that name.",
        ),
        Route(
            "POST",
            f"{one}/delete",
            f"Delete{shown}Policy",
            resource,
            partial(_delete, kind),
            "context",
            returns=DeletedInlinePolicy,
            summary=f"Takes an inline policy out of a {kind}.",
        ),
    )


ROUTES: Final = (*_routes("user"), *_routes("group"), *_routes("role"))
