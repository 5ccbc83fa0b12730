"""What signs a form upload."""

from __future__ import annotations

import base64
import hmac

import pytest

from objectio.abc.api import FormCredentials, Identity
from objectio.errors import (
    CredentialsMalformed,
    RequestExpired,
    SignatureMismatch,
    UnknownAccessKey,
)
from objectio.iam.credentials import Credential, StaticCredentials
from objectio.iam.forms import OLD_ALGORITHM, FormVerifier

# "Browser-based uploads using POST (AWS Signature Version 4)", "Example".
AWS = Credential(
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    Identity("aws", "arn:aws", "AKIAIOSFODNN7EXAMPLE"),
)
AWS_POLICY = (
    b"eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7"
    b"ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91"
    b"c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3Qi"
    b"OiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwi"
    b"fSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRh"
    b"LXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVT"
    b"MjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNy"
    b"ZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9"
    b"LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAi"
    b"MjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9"
)
FORM = FormCredentials(
    AWS_POLICY,
    "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "20151229T000000Z",
    "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
)
NOW = 1_451_347_200.0  # 2015-12-29


def verify(form, now=NOW):
    return FormVerifier(StaticCredentials([AWS]), clock=lambda: now).verify(form)


def old(form=FORM, by=AWS):
    digest = hmac.digest(by.secret_key.encode(), form.policy, "sha1")
    return FormCredentials(
        form.policy, by.access_key, "", base64.b64encode(digest).decode(), OLD_ALGORITHM
    )


def test_aws_example():
    assert verify(FORM) is AWS


def test_the_older_form():
    assert verify(old()) is AWS


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"policy": AWS_POLICY[:-1]}, SignatureMismatch),
        ({"signature": "0" * 64}, SignatureMismatch),
        ({"signature": FORM.signature.upper()}, CredentialsMalformed),
        ({"signature": ""}, CredentialsMalformed),
        ({"signature": "ü" * 64}, CredentialsMalformed),
        ({"algorithm": "AWS4-HMAC-SHA1"}, CredentialsMalformed),
        ({"algorithm": ""}, CredentialsMalformed),
        ({"algorithm": OLD_ALGORITHM}, UnknownAccessKey),
        ({"date": "20151230T000000Z"}, CredentialsMalformed),
        ({"date": "ü"}, CredentialsMalformed),
        ({"date": ""}, CredentialsMalformed),
        ({"security_token": "x"}, CredentialsMalformed),
        ({"credential": "A/20151229/us-east-1/s3/aws4_request"}, UnknownAccessKey),
        ({"credential": "ü/20151229/us-east-1/s3/aws4_request"}, UnknownAccessKey),
        ({"credential": "/20151229/us-east-1/s3/aws4_request"}, CredentialsMalformed),
        (
            {"credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-west-1/s3/aws4_request"},
            CredentialsMalformed,
        ),
        (
            {"credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/iam/aws4_request"},
            CredentialsMalformed,
        ),
        (
            {"credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws5_request"},
            CredentialsMalformed,
        ),
        ({"credential": "AKIAIOSFODNN7EXAMPLE"}, CredentialsMalformed),
    ],
    ids=str,
)
def test_what_is_changed_is_refused(change, error):
    with pytest.raises(error):
        verify(FORM._replace(**change))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"policy": AWS_POLICY[:-1]}, SignatureMismatch),
        ({"signature": base64.b64encode(bytes(20)).decode()}, SignatureMismatch),
        ({"signature": base64.b64encode(bytes(19)).decode()}, SignatureMismatch),
        ({"signature": ""}, SignatureMismatch),
        ({"signature": "ü"}, SignatureMismatch),
        ({"credential": "A"}, UnknownAccessKey),
        ({"credential": "ü"}, UnknownAccessKey),
    ],
    ids=str,
)
def test_what_is_changed_of_the_older_form_is_refused(change, error):
    with pytest.raises(error):
        verify(old()._replace(**change))


def test_how_long_a_signature_holds():
    """The policy says for how long it holds; at most seven days."""
    assert verify(FORM, NOW + 7 * 24 * 3600) is AWS
    assert verify(FORM, NOW - 900) is AWS
    for now in (NOW + 7 * 24 * 3600 + 1, NOW - 901):
        with pytest.raises(RequestExpired):
            verify(FORM, now)


def test_unknown_keys_take_the_same_steps(monkeypatch):
    counts = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (counts.append(len(b)), real(a, b))[1])
    unknown = FORM._replace(credential=FORM.credential.replace("AKIA", "AKIB"))
    for form in (FORM._replace(signature="0" * 64), unknown):
        counts.clear()
        with pytest.raises((SignatureMismatch, UnknownAccessKey)):
            verify(form)
        assert counts == [64]
