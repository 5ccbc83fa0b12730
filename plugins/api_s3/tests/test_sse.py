"""Server-side encryption in headers: what a request asks for, what is refused, what is answered."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objectio_api_s3 import sse
from objectio_api_s3.errors import Refusal, explain

from objectio.abc.objects import Encryption, EncryptionInfo

SSE = b"x-amz-server-side-encryption"
CUSTOMER = SSE + b"-customer-"
SOURCE = b"x-amz-copy-source-server-side-encryption-customer-"
KEY = bytes(range(32))


def b64(raw):
    return base64.b64encode(raw)


def customer(key=KEY, prefix=CUSTOMER, **other):
    found = {
        prefix + b"algorithm": b"AES256",
        prefix + b"key": b64(key),
        prefix + b"key-md5": b64(hashlib.md5(key).digest()),
    }
    for name, value in other.items():
        header = prefix + name.replace("_", "-").encode()
        if value is None:
            del found[header]
        else:
            found[header] = value
    return found


def context(value):
    return b64(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({b"x-amz-meta-a": b"b"}, None),
        ({SSE: b"AES256"}, Encryption(method="AES256")),
        ({SSE: b"aws:kms"}, Encryption(method="aws:kms")),
        (
            {
                SSE: b"aws:kms",
                SSE + b"-aws-kms-key-id": b"k",
                SSE + b"-context": context({"a": "b"}),
            },
            Encryption(method="aws:kms", key_id="k", context={"a": "b"}),
        ),
        (
            {SSE: b"aws:kms:dsse", SSE + b"-bucket-key-enabled": b"true"},
            Encryption(method="aws:kms:dsse", bucket_key=True),
        ),
        ({SSE: b"aws:kms", SSE + b"-bucket-key-enabled": b"False"}, Encryption(method="aws:kms")),
        (customer(), Encryption(method="SSE-C", customer_key=KEY)),
    ],
)
def test_what_a_write_asks_for(headers, wanted):
    assert sse.parse_write(headers) == wanted


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({SSE: b"aes:kms"}, "InvalidArgument"),
        ({SSE: b"AES192"}, "InvalidArgument"),
        ({SSE: b""}, "InvalidArgument"),
        ({SSE + b"-aws-kms-key-id": b"k"}, "InvalidArgument"),
        ({SSE: b"AES256", SSE + b"-aws-kms-key-id": b"k"}, "InvalidArgument"),
        ({SSE: b"AES256", SSE + b"-context": context({})}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": b"!"}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": context([1])}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": context({"a": 1})}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": context({"a": "b" * 9000})}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": b64(b"[" * 8000)}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-context": b64(b"\xff")}, "InvalidArgument"),
        ({SSE: b"aws:kms", SSE + b"-bucket-key-enabled": b"yes"}, "InvalidArgument"),
        ({**customer(), SSE: b"aws:kms"}, "InvalidArgument"),
        ({**customer(), SSE: b"AES256"}, "InvalidArgument"),
        ({**customer(), SSE + b"-aws-kms-key-id": b"k"}, "InvalidArgument"),
        (customer(algorithm=b"AES192"), "InvalidEncryptionAlgorithmError"),
        (customer(algorithm=None), "InvalidArgument"),
        ({CUSTOMER + b"algorithm": b"AES256"}, "InvalidArgument"),
        (customer(key_md5=None), "InvalidArgument"),
        (customer(key_md5=b64(bytes(16))), "InvalidArgument"),
        (customer(key_md5=b"?"), "InvalidArgument"),
        (customer(key=b"short"), "InvalidArgument"),
        ({**customer(), CUSTOMER + b"key": b"not base64"}, "InvalidArgument"),
    ],
)
def test_what_is_refused(headers, code):
    with pytest.raises(Refusal) as raised:
        sse.parse_write(headers)
    answer = explain(raised.value)
    assert (answer.code, answer.status) == (code, 400)
    assert b64(KEY).decode() not in str(raised.value) + str(raised.value.details)


def test_reads_and_copies_bring_keys():
    other = b"o" * 32
    headers = {**customer(), **customer(other, SOURCE)}
    assert sse.parse_customer_key(headers) == KEY
    assert sse.parse_source_key(headers) == other
    assert sse.parse_customer_key(customer(other, SOURCE)) is None
    assert sse.parse_source_key(customer()) is None
    with pytest.raises(Refusal):
        sse.parse_source_key(customer(other, SOURCE, key_md5=None))


def test_reads_do_not_say_how_a_version_is_encrypted():
    sse.refuse_method(customer())
    sse.refuse_method({b"range": b"bytes=0-1"})
    for headers in ({SSE: b"AES256"}, {SSE: b"aws:kms", SSE + b"-aws-kms-key-id": b"k"}):
        with pytest.raises(Refusal) as raised:
            sse.refuse_method(headers)
        assert explain(raised.value).status == 400


@pytest.mark.parametrize(
    ("info", "headers"),
    [
        (None, {}),
        (EncryptionInfo(method="AES256", key_id="default"), {SSE: b"AES256"}),
        (
            EncryptionInfo(method="aws:kms", key_id="k", bucket_key=True),
            {
                SSE: b"aws:kms",
                SSE + b"-aws-kms-key-id": b"k",
                SSE + b"-bucket-key-enabled": b"true",
            },
        ),
        (
            EncryptionInfo(method="SSE-C", customer_key_md5="bWQ1"),
            {CUSTOMER + b"algorithm": b"AES256", CUSTOMER + b"key-md5": b"bWQ1"},
        ),
    ],
)
def test_what_is_answered(info, headers):
    assert dict(sse.response_headers(info)) == headers


def test_a_key_id_does_not_split_an_answer():
    info = EncryptionInfo(method="aws:kms", key_id="k\r\nset-cookie: a\0")
    assert dict(sse.response_headers(info))[SSE + b"-aws-kms-key-id"] == b"kset-cookie: a"


def test_every_header_that_is_read_is_declared():
    assert set(customer()) == sse.CUSTOMER_HEADERS
    assert set(customer(prefix=SOURCE)) == sse.SOURCE_HEADERS
    assert len(sse.WRITE_HEADERS) == 7


@given(
    st.dictionaries(
        st.sampled_from(sorted(sse.WRITE_HEADERS)),
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([b"AES256", b"aws:kms", b"true", b64(KEY), context({"a": "b"})]),
        ),
    )
)
def test_any_headers_are_understood_or_refused(headers):
    with contextlib.suppress(Refusal):
        wanted = sse.parse_write(headers)
        assert wanted is None or wanted.method in ("AES256", "aws:kms", "aws:kms:dsse", "SSE-C")
