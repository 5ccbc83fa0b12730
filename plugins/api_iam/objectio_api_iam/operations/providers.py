"""Providers of web identities (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio_api_iam.call import Call, Route, everything, given_arn
from objectio_api_iam.operations.users import tag_list
from objectio_api_iam.xml import Value, timestamp

_ARN: Final = "OpenIDConnectProviderArn"


async def _new_provider(call: Call) -> str:
    host_and_path = call.form.need("Url").partition("://")[2].rstrip("/")
    return call.arn("oidc-provider", host_and_path)


async def create_provider(call: Call) -> Value:
    provider = await call.admin.create_provider(
        call.account,
        call.form.need("Url"),
        client_ids=call.form.texts("ClientIDList"),
        thumbprints=call.form.texts("ThumbprintList"),
        tags=call.form.tags(),
    )
    tags = tag_list(provider.tags) if provider.tags else None
    return {_ARN: provider.arn, "Tags": tags}


async def get_provider(call: Call) -> Value:
    provider = await call.admin.get_provider(call.account, call.form.need(_ARN))
    return {
        "Url": provider.url.partition("://")[2],
        "ClientIDList": list(provider.client_ids),
        "ThumbprintList": list(provider.thumbprints),
        "CreateDate": timestamp(provider.created_ms),
        "Tags": tag_list(provider.tags) if provider.tags else None,
    }


async def list_providers(call: Call) -> Value:
    providers = await call.admin.list_providers(call.account)
    return {"OpenIDConnectProviderList": [{"Arn": provider.arn} for provider in providers]}


async def delete_provider(call: Call) -> None:
    await call.admin.delete_provider(call.account, call.form.need(_ARN))


async def add_client_id(call: Call) -> None:
    """One that is there already is not added again."""
    provider = await call.admin.get_provider(call.account, call.form.need(_ARN))
    added = call.form.need("ClientID")
    if added not in provider.client_ids:
        await call.admin.update_provider(
            call.account, provider.arn, client_ids=[*provider.client_ids, added]
        )


async def remove_client_id(call: Call) -> None:
    provider = await call.admin.get_provider(call.account, call.form.need(_ARN))
    removed = call.form.need("ClientID")
    kept = [name for name in provider.client_ids if name != removed]
    await call.admin.update_provider(call.account, provider.arn, client_ids=kept)


async def update_thumbprints(call: Call) -> None:
    await call.admin.update_provider(
        call.account, call.form.need(_ARN), thumbprints=call.form.texts("ThumbprintList")
    )


ROUTES: Final[Mapping[str, Route]] = {
    "CreateOpenIDConnectProvider": Route("iam", create_provider, _new_provider),
    "GetOpenIDConnectProvider": Route("iam", get_provider, given_arn(_ARN)),
    "ListOpenIDConnectProviders": Route("iam", list_providers, everything("oidc-provider")),
    "DeleteOpenIDConnectProvider": Route("iam", delete_provider, given_arn(_ARN)),
    "AddClientIDToOpenIDConnectProvider": Route("iam", add_client_id, given_arn(_ARN)),
    "RemoveClientIDFromOpenIDConnectProvider": Route("iam", remove_client_id, given_arn(_ARN)),
    "UpdateOpenIDConnectProviderThumbprint": Route("iam", update_thumbprints, given_arn(_ARN)),
}
