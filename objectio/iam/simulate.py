"""What policies would say: the same evaluation that the gate asks, of requests that nobody makes. Pure.

A principal is asked about with the policies that it has, or that it would have. Resources are taken as
those of its own account, and what operators manage as that of the root's. What stands at a resource
(the policy of a bucket) counts if it is given, and the limits of the key that is asked with if the identity
has some.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from objectio.abc.api import Identity
from objectio.errors import InvalidRequest
from objectio.iam.arns import ADMIN_SERVICE, translate
from objectio.iam.credentials import ROOT_CANONICAL_ID
from objectio.iam.evaluate import Question, evaluate
from objectio.iam.policy import Asked, Lookup, Policy, Values

OF_RESOURCE: Final = "the resource's policy"
OF_KEY: Final = "the key's policy"
ROOT_ONLY: Final = "only the root may"

_ACTION: Final = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9]+")
_BY_POLICIES: Final = frozenset({"s3", "iam", "sts", "sns", ADMIN_SERVICE})
"""The services that the gate lets others than the root of the cluster use: `objectio.gateway.guard`."""


class Simulated(NamedTuple):
    """`reason` is the rule that decided, `policies` the names of those that made it so."""

    action: str
    resource: str
    allowed: bool
    reason: str
    policies: Sequence[str]


def simulate(
    identity: Identity,
    policies: Mapping[str, str],
    actions: Sequence[str],
    resources: Sequence[str],
    *,
    context: Mapping[str, Sequence[str]] = {},
    resource_policy: str = "",
    now: float | None = None,
) -> list[Simulated]:
    """Each action with each resource. `policies` are the documents of `identity` by name, `context` the
    values of condition keys, besides those that say who asks, and when. Raises `MalformedPolicy`, and
    `InvalidRequest` for what is no action or resource."""
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise InvalidRequest(
                f"{action!r} is no action: name one, as s3:GetObject", reason="ValidationError"
            )
    for resource in resources:
        if resource != "*" and not resource.startswith("arn:"):
            raise InvalidRequest(
                f"{resource!r} is no resource: give its ARN, as arn:aws:s3:::bucket/key",
                reason="ValidationError",
            )
    compiled = {
        name: Policy.parse(document, kind="identity") for name, document in policies.items()
    }
    of_resource = Policy.parse(resource_policy, kind="resource") if resource_policy else None
    values = {**_principal(identity, time.time() if now is None else now), **_lowered(context)}
    asking = identity._replace(policies=tuple(compiled.values()))
    return [
        _ask(asking, compiled, action, resource, values, of_resource)
        for action in actions
        for resource in resources
    ]


def _ask(
    identity: Identity,
    compiled: Mapping[str, Policy],
    action: str,
    resource: str,
    values: Values,
    of_resource: Policy | None,
) -> Simulated:
    service = action.partition(":")[0].lower()
    if service not in _BY_POLICIES:
        return Simulated(action, resource, identity.is_root, ROOT_ONLY, ())
    at = of_resource if service == "s3" else None
    owner = ROOT_CANONICAL_ID if service == ADMIN_SERVICE else identity.canonical_id
    named = translate(resource)
    decision = evaluate(Question(identity, action, named, owner, lambda: values, at))
    asked = Asked(identity, action.lower(), named, Lookup(lambda: values), owner)
    answers = {name: policy.ask(asked) for name, policy in compiled.items()}
    if at is not None:
        answers[OF_RESOURCE] = at.ask(asked)
    if identity.limits is not None and identity.limits.policy is not None:
        answers[OF_KEY] = identity.limits.policy.ask(asked)
    denying = [name for name, answer in answers.items() if answer.denied]
    allowing = [name for name, answer in answers.items() if answer.allowed]
    decided = allowing if decision.allowed else denying
    return Simulated(action, resource, decision.allowed, decision.reason, tuple(decided))


def _principal(identity: Identity, now: float) -> dict[str, Sequence[str]]:
    """As the gate says it of a request that was signed by the principal's own key."""
    found: dict[str, Sequence[str]] = {
        "aws:currenttime": (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),),
        "aws:epochtime": (str(int(now)),),
        "aws:principalaccount": (identity.account,),
        "aws:principalarn": (identity.arn,),
        "aws:principaltype": ("User",),
        "aws:userid": (identity.user_id,),
    }
    if identity.is_account_root:
        found["aws:principaltype"] = ("Account",)
    else:
        found["aws:username"] = (identity.name,)
    for key, value in identity.tags.items():
        found[f"aws:principaltag/{key.lower()}"] = (value,)
    return found


def _lowered(values: Values) -> dict[str, Sequence[str]]:
    return {name.lower(): tuple(given) for name, given in values.items()}
