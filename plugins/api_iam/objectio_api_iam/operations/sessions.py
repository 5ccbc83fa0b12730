"""STS: temporary credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from objectio.abc.api import Identity, Wanted
from objectio.errors import AccessDenied, NotFound
from objectio.iam.admin import Role, TemporaryCredentials
from objectio.iam.evaluate import Question, evaluate
from objectio.iam.policy import Policy
from objectio_api_iam.call import Call, Route, tag_values
from objectio_api_iam.errors import Refusal
from objectio_api_iam.oidc import WebIdentity
from objectio_api_iam.xml import Value, timestamp

ROLE_SECONDS_DEFAULT: Final = 3_600
CHAINED_SECONDS_MAX: Final = 3_600  # STS API reference, AssumeRole: role chaining
SESSION_SECONDS_DEFAULT: Final = 43_200
POLICIES_MAX: Final = 10
# What would narrow or mark a session in ways that nobody here acts upon.
_NOT_BUILT: Final = (
    "ProvidedContexts",
    "SerialNumber",
    "SourceIdentity",
    "TokenCode",
    "TransitiveTagKeys",
)


async def assume_role(call: Call) -> Value:
    form = call.form
    form.refuse(*_NOT_BUILT)
    session, tags = form.need("RoleSessionName"), form.tags()
    role = await _find_role(call, "sts:AssumeRole")
    values: dict[str, Sequence[str]] = {"sts:RoleSessionName": (session,), **tag_values(tags)}
    if "ExternalId" in form:
        values["sts:ExternalId"] = (form.get("ExternalId"),)
    trust = Policy.parse(role.trust_policy, kind="trust")
    for action in ("sts:AssumeRole", *(["sts:TagSession"] if tags else [])):
        await call.request.trust(Wanted(action, role.arn, None, lambda: values, trust))
    seconds = form.number("DurationSeconds", ROLE_SECONDS_DEFAULT)
    if call.identity.role_arn and seconds > CHAINED_SECONDS_MAX:
        raise Refusal(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining",
        )
    made = await call.admin.assume_role(
        role,
        session,
        seconds=seconds,
        policies=await _session_policies(call, role),
        tags=tags,
        caller=call.identity,
    )
    return {
        "AssumedRoleUser": _show_assumed(made.identity),
        "Credentials": show_credentials(made),
        "PackedPolicySize": 0,
    }


async def assume_role_with_web_identity(call: Call) -> Value:
    """The token is the credential: the request need not be signed, and who signed it is not asked."""
    form = call.form
    form.refuse("ProviderId", *_NOT_BUILT)
    session, token = form.need("RoleSessionName"), form.need("WebIdentityToken")
    role = await _find_role(call, "sts:AssumeRoleWithWebIdentity")
    web = await call.verifier.verify(token, await call.admin.list_providers(role.account))
    tags = web.tags
    caller = Identity(web.subject, web.provider.arn, "")
    trust = Policy.parse(role.trust_policy, kind="trust")
    values = {
        **web.values(),
        "aws:FederatedProvider": (web.provider.arn,),
        "aws:SecureTransport": ("true" if call.request.secure else "false",),
        "sts:RoleSessionName": (session,),
        **tag_values(tags),
    }
    if call.request.source_ip:
        values["aws:SourceIp"] = (call.request.source_ip,)
    for action in ("AssumeRoleWithWebIdentity", *(["TagSession"] if tags else [])):
        question = Question(
            caller, f"sts:{action}", role.arn, "", values=lambda: values, policy=trust
        )
        if not evaluate(question).allowed:
            raise _not_authorized(f"sts:{action}")
    made = await call.admin.assume_role(
        role,
        session,
        seconds=form.number("DurationSeconds", ROLE_SECONDS_DEFAULT),
        policies=await _session_policies(call, role),
        tags=tags,
        keys=_kept(web),
    )
    return {
        "SubjectFromWebIdentityToken": web.subject,
        "Audience": web.audience,
        "AssumedRoleUser": _show_assumed(made.identity),
        "Credentials": show_credentials(made),
        "Provider": web.provider.arn,
        "PackedPolicySize": 0,
    }


async def get_session_token(call: Call) -> Value:
    """No policy need allow it (STS API reference, GetSessionToken): the session may what the caller
    may."""
    call.form.refuse("SerialNumber", "TokenCode")
    seconds = call.form.number("DurationSeconds", SESSION_SECONDS_DEFAULT)
    made = await call.admin.get_session_token(call.identity, seconds=seconds)
    return {"Credentials": show_credentials(made)}


async def get_caller_identity(call: Call) -> Value:
    """No policy need allow it, and none can deny it (STS API reference, GetCallerIdentity)."""
    identity = call.identity
    return {
        "Arn": identity.arn,
        "UserId": identity.user_id or identity.account,
        "Account": identity.account,
    }


def show_credentials(made: TemporaryCredentials) -> Value:
    return {
        "AccessKeyId": made.access_key,
        "SecretAccessKey": made.secret_key,
        "SessionToken": made.session_token,
        "Expiration": timestamp(made.expires_ms),
    }


def _show_assumed(identity: Identity) -> Value:
    return {"AssumedRoleId": identity.user_id, "Arn": identity.arn}


def _not_authorized(action: str) -> AccessDenied:
    return AccessDenied(f"Not authorized to perform {action}", reason="AccessDenied")


async def _find_role(call: Call, action: str) -> Role:
    """Whether there is one is nothing to learn for who may not assume it."""
    try:
        return await call.admin.find_role(call.form.need("RoleArn"))
    except NotFound:
        raise _not_authorized(action) from None


async def _session_policies(call: Call, role: Role) -> list[str]:
    form = call.form
    # An empty one is a mistake of who wanted less than all.
    documents = [form.need("Policy")] if "Policy" in form else []
    arns = [item.get("arn", "") for item in form.records("PolicyArns")]
    if len(arns) > POLICIES_MAX:
        raise Refusal("ValidationError", f"There are at most {POLICIES_MAX} session policies.")
    for arn in arns:
        policy = await call.admin.get_managed_policy(role.account, arn)
        documents.append(policy.document)
    return documents


def _kept(web: WebIdentity) -> dict[str, Sequence[str]]:
    """The keys that each request of the session has (IAM user guide, "Available keys for AWS OIDC
    federation")."""
    host = web.provider.url.partition("://")[2].rstrip("/")
    known = web.values()
    names = [f"{host}:{name}" for name in ("aud", "sub", "amr", "azp")]
    return {
        **{name: known[name] for name in names if name in known},
        "aws:FederatedProvider": (web.provider.arn,),
    }


ROUTES: Final[Mapping[str, Route]] = {
    "AssumeRole": Route("sts", assume_role, None),
    "AssumeRoleWithWebIdentity": Route("sts", assume_role_with_web_identity, None, anonymous=True),
    "GetSessionToken": Route("sts", get_session_token, None),
    "GetCallerIdentity": Route("sts", get_caller_identity, None),
}
