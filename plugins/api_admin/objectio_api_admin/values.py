"""What stands in the fields of requests and answers, in words and in JSON schema.

The patterns are for whoever reads the schema: what decides is the code that keeps the thing, whose
messages say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from objectio.iam.admin import ROLE_SESSION_SECONDS_MAX
from objectio.iam.tokens import ACCESS_KEY_PREFIX


def _said(description: str, **schema: Any) -> msgspec.Meta:
    return msgspec.Meta(description=description, extra_json_schema=schema)


Milliseconds = Annotated[int, _said("Unix time in milliseconds.")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Arn = Annotated[str, _said("Names it in policies.", pattern="^arn:")]
UniqueId = Annotated[str, _said("Never used again, even if the name is.")]
CanonicalId = Annotated[str, _said("The account, as ACLs and owners of objects name it.")]
AccountId = Annotated[
    str, _said("An account; 000000000000 is that of the cluster's root.", pattern="^[0-9]{12}$")
]

_NAME_SAID: Final = "Upper and lower case are the same name."
UserName = Annotated[str, _said(_NAME_SAID, pattern="^[A-Za-z0-9_+=,.@-]{1,64}$")]
GroupName = Annotated[str, _said(_NAME_SAID, pattern="^[A-Za-z0-9_+=,.@-]{1,128}$")]
RoleName = Annotated[str, _said(_NAME_SAID, pattern="^[A-Za-z0-9_+=,.@-]{1,64}$")]
PolicyName = Annotated[str, _said(_NAME_SAID, pattern="^[A-Za-z0-9_+=,.@-]{1,128}$")]
Path = Annotated[
    str,
    _said("Part of the ARN, to sort names like a directory.", pattern="^/([!-~]{1,510}/)?$"),
]
Description = Annotated[str, _said("For people.", maxLength=1_000)]
SessionSeconds = Annotated[
    int,
    _said(
        "The longest session that may be asked for.",
        minimum=3_600,
        maximum=ROLE_SESSION_SECONDS_MAX,
    ),
]
Tags = Annotated[
    Mapping[str, str],
    _said(
        "What policies may ask for (aws:PrincipalTag).",
        maxProperties=50,
        propertyNames={"minLength": 1, "maxLength": 128},
        additionalProperties={"type": "string", "maxLength": 256},
    ),
]
ActionName = Annotated[str, _said("As s3:GetObject.", pattern="^[A-Za-z0-9-]+:[A-Za-z0-9]+$")]
ResourceArn = Annotated[str, _said("As arn:aws:s3:::bucket/key, or *.", pattern="^(\\*$|arn:)")]
BucketName = Annotated[
    str, _said("As S3 names buckets.", pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
]

AccessKeyId = Annotated[str, _said("What a request says that it is signed with.")]
SecretKey = Annotated[str, _said("What requests are signed with; shown this once.")]
NewAccessKeyId = Annotated[
    str,
    _said("Empty: one is made.", pattern=f"^(?!{ACCESS_KEY_PREFIX})([A-Za-z0-9._@+-]{{3,128}})?$"),
]
NewSecretKey = Annotated[str, _said("Empty: one is made.", pattern="^([\\u0000-\\u007f]{8,128})?$")]

Document = Annotated[msgspec.Raw, _said("A policy, as IAM has them.", type="object")]
NewDocument = Annotated[
    msgspec.Raw,
    _said(
        "A policy, as IAM has them: an object, or a text that has one.", type=["object", "string"]
    ),
]
NoDocument = Annotated[
    msgspec.Raw,
    _said(
        "A policy, as IAM has them: an object, or a text that has one; null: none.",
        type=["object", "string", "null"],
    ),
]


class Error(msgspec.Struct, frozen=True):
    code: Annotated[str, _said("The name of the error, the same in every version.")]
    message: Annotated[str, _said("A sentence for people.")]


class ErrorAnswer(msgspec.Struct, frozen=True):
    """What every answer but 200 is."""

    error: Error
