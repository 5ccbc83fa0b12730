"""Settings of buckets made of random pieces: refused or kept, and what is shown can be put again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from objectio_api_s3.xml import element

# Those that are right nearly everywhere come first, and are taken mostly.
TEXTS = ("a", "one.example", "", "a/", "&<", "é", " x ", "*", "https://*", "aws:x", "1\n2")
NUMBERS = ("7", "60", "0", "1", "-1", "99999999999", "1.5", "x", " 3 ")
BOOLEANS = ("true", "false", "TRUE", "1", "yes")
TAG = {"Key": TEXTS, "Value": TEXTS}
TESTS = {
    "Prefix": TEXTS,
    "Tag": TAG,
    "ObjectSizeGreaterThan": NUMBERS,
    "ObjectSizeLessThan": NUMBERS,
}
EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", "s3:LifecycleExpiration:*", "s3:Other")
ARNS = ("arn:aws:sns:us-east-1:000000000000:one", "arn:aws:sqs:::two", "nowhere")


def target(form):
    rule = {"Name": ("prefix", "suffix", "Prefix", "x"), "Value": TEXTS}
    return {
        "Id": TEXTS,
        form: ARNS,
        "Event": EVENTS,
        "Filter": {"S3Key": {"FilterRule": rule}},
    }


GRAMMAR = {
    "lifecycle": (
        "LifecycleConfiguration",
        {
            "Rule": {
                "ID": TEXTS,
                "": {"Prefix": TEXTS, "Filter": {"": {**TESTS, "And": TESTS}}},
                "Status": ("Enabled", "Disabled"),
                "Expiration": {
                    "": {
                        "Days": NUMBERS,
                        "Date": ("2030-01-01", "2030-01-01T00:00:00.000Z", "2030-01-01T01:00:00Z"),
                        "ExpiredObjectDeleteMarker": BOOLEANS,
                    }
                },
                "NoncurrentVersionExpiration": {
                    "NoncurrentDays": NUMBERS,
                    "NewerNoncurrentVersions": NUMBERS,
                },
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": NUMBERS},
            }
        },
    ),
    "cors": (
        "CORSConfiguration",
        {
            "CORSRule": {
                "ID": TEXTS,
                "AllowedMethod": ("GET", "PUT", "PATCH"),
                "AllowedOrigin": TEXTS,
                "AllowedHeader": ("*", "x-amz-*", "a b"),
                "ExposeHeader": ("ETag", "x-amz-request-id", "a:b"),
                "MaxAgeSeconds": NUMBERS,
            }
        },
    ),
    "website": (
        "WebsiteConfiguration",
        {
            "": {
                "RedirectAllRequestsTo": {"HostName": TEXTS, "Protocol": ("http", "https", "ftp")},
                "IndexDocument": {"Suffix": TEXTS},
            },
            "ErrorDocument": {"Key": TEXTS},
            "RoutingRules": {
                "RoutingRule": {
                    "Condition": {
                        "KeyPrefixEquals": TEXTS,
                        "HttpErrorCodeReturnedEquals": ("404", "503", "200", "0", "x"),
                    },
                    "Redirect": {
                        "HostName": TEXTS,
                        "Protocol": ("http", "https"),
                        "HttpRedirectCode": ("301", "302", "200"),
                        "": {"ReplaceKeyWith": TEXTS, "ReplaceKeyPrefixWith": TEXTS},
                    },
                }
            },
        },
    ),
    "notification": (
        "NotificationConfiguration",
        {f"{form}Configuration": target(form) for form in ("Topic", "Queue", "CloudFunction")},
    ),
    "tagging": ("Tagging", {"TagSet": {"Tag": TAG}}),
    "publicAccessBlock": (
        "PublicAccessBlockConfiguration",
        {"BlockPublicAcls": BOOLEANS, "RestrictPublicBuckets": BOOLEANS},
    ),
    "encryption": (
        "ServerSideEncryptionConfiguration",
        {
            "Rule": {
                "ApplyServerSideEncryptionByDefault": {
                    "SSEAlgorithm": ("AES256", "aws:kms", "none"),
                    "KMSMasterKeyID": TEXTS,
                },
                "BucketKeyEnabled": BOOLEANS,
            }
        },
    ),
    "object-lock": (
        "ObjectLockConfiguration",
        {
            "ObjectLockEnabled": ("Enabled",),
            "Rule": {
                "DefaultRetention": {
                    "Mode": ("GOVERNANCE", "COMPLIANCE"),
                    "": {"Days": NUMBERS, "Years": NUMBERS},
                }
            },
        },
    ),
}


@st.composite
def content(draw, grammar):
    """Each child once mostly, or not at all, or twice; of those below "" mostly one; and rarely
    something unknown."""
    names = dict(grammar)
    choices = names.pop("", {})
    if choices:
        for name in draw(st.lists(st.sampled_from(sorted(choices)), min_size=1, max_size=2)):
            names[name] = choices[name]
            if draw(st.integers(0, 4)):
                break
    shown = []
    for name, inner in names.items():
        for _ in range(draw(st.sampled_from((1, 1, 1, 1, 1, 1, 1, 1, 0, 2)))):
            if isinstance(inner, dict):
                shown.append(f"<{name}>{draw(content(inner))}</{name}>")
            else:
                likely = inner if draw(st.integers(0, 7)) == 7 else inner[:2]
                shown.append(element(name, draw(st.sampled_from(likely))))
    if draw(st.integers(0, 40)) == 40:
        shown.append("<Unknown/>")
    return "".join(shown)


@pytest.mark.parametrize("name", GRAMMAR)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_what_is_shown_can_be_put_again(objects, make_s3, name, data):
    s3 = make_s3(objects)
    await s3("PUT", "/bucket", headers={"x-amz-bucket-object-lock-enabled": "true"})
    root, grammar = GRAMMAR[name]
    path, inner = f"/bucket?{name}", data.draw(content(grammar))
    before = await s3("GET", path)
    answer = await s3("PUT", path, body=f"<{root}>{inner}</{root}>".encode())
    event("kept" if answer.status < 300 else s3.code(answer))
    shown = await s3("GET", path)
    if answer.status >= 400:
        assert answer.status in (400, 501), answer
        assert (shown.status, code_or_body(s3, shown)) == (
            before.status,
            code_or_body(s3, before),
        )
        return
    assert shown.status == 200
    assert (await s3("PUT", path, body=shown.body)).status < 300, shown
    assert (await s3("GET", path)).body == shown.body


def code_or_body(s3, answer):
    """Error documents differ in their ids."""
    return answer.body if answer.status == 200 else s3.code(answer)
