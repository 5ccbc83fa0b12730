"""PostObject: forms, what their policies let through, and how they are read."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from objectio_api_s3.errors import Refusal
from objectio_api_s3.post_policy import parse_policy

from objectio.abc.api import ANONYMOUS
from objectio.errors import AccessDenied
from objectio.testing.api import NOBODY
from objectio.testing.objects import MemoryObjects

BOUNDARY = "----boundary7f3a"


def form(file=b"data", fields=(), *, name="a.txt", tail=b"\r\n", after=()):
    """Content type and body, as a browser makes them."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in dict(fields).items()
    ]
    head = "".join(parts).encode()
    if file is not None:
        head += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: text/plain\r\n\r\n"
        ).encode()
        head += file + b"\r\n"
    for key, value in dict(after).items():
        head += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        ).encode()
    return head + f"--{BOUNDARY}--".encode() + tail


TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


async def post(s3, body, path="/bucket", **more):
    return await s3("POST", path, headers=TYPE, body=body, **more)


def document(*conditions, seconds=600, **more):
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return {"expiration": expires, "conditions": list(conditions), **more}


def encode(found):
    return base64.b64encode(json.dumps(found).encode()).decode()


async def test_a_form(s3, bucket):
    fields = {"key": "dir/${filename}", "Content-Type": "text/x", "x-amz-meta-Color": "blue"}
    answer = await post(s3, form(b"data", fields, name="C:\\dir\\a b.txt"))
    assert (answer.status, answer.body) == (204, b"")
    got = await s3.get("/bucket/dir/a%20b.txt")
    assert got.body == b"data"
    assert got.headers["content-type"] == "text/x"
    assert got.headers["x-amz-meta-color"] == "blue"
    assert got.headers["etag"] == answer.headers["etag"]
    assert answer.headers["location"].endswith("/bucket/dir/a%20b.txt")


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) + 5, 3 << 20])
@pytest.mark.parametrize("piece_size_bytes", [7919, 64 * 1024])
async def test_sizes_and_pieces(make_s3, objects, size, piece_size_bytes):
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    # Much in it looks like the boundary.
    data = (f"\r\n--{BOUNDARY[:-1]}\r\n\r\n\r\n--".encode() * (size // 16 + 1))[:size]
    body = form(data, {"key": "k"})
    answer = await post(s3, body, piece_size_bytes=piece_size_bytes)
    assert answer.status == 204, answer
    assert (await s3.get("/bucket/k")).body == data


@pytest.mark.parametrize("piece_size_bytes", [1, 2, 3, 1000])
async def test_any_pieces(make_s3, objects, piece_size_bytes):
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    body = form(b"data", {"key": "k"}, tail=b"", after={"submit": "x"})
    answer = await post(s3, body, piece_size_bytes=piece_size_bytes)
    assert answer.status == 204, answer
    assert (await s3.get("/bucket/k")).body == b"data"


@pytest.mark.parametrize("more", [{"tail": b""}, {"tail": b"\r\nx"}, {"after": {"a": "b"}}])
async def test_a_long_form_ends_behind_its_file(s3, bucket, more):
    answer = await post(s3, form(bytes(2 << 20), {"key": "k"}, **more))
    assert (answer.status, s3.code(answer)) == (400, "MalformedPOSTRequest")
    assert (await s3("HEAD", "/bucket/k")).status == 404


async def test_success(s3, bucket):
    created = await post(s3, form(fields={"key": "a<b", "success_action_status": "201"}))
    assert created.status == 201
    assert b"<PostResponse><Location>" in created.body
    assert b"<Bucket>bucket</Bucket><Key>a&lt;b</Key><ETag>&quot;" in created.body
    assert (await post(s3, form(fields={"key": "k", "success_action_status": "200"}))).status == 200
    assert (await post(s3, form(fields={"key": "k", "success_action_status": "404"}))).status == 204
    url = "https://example.com/done?x=1"
    moved = await post(s3, form(fields={"key": "a b", "success_action_redirect": url}))
    assert moved.status == 303
    etag = moved.headers["etag"].strip('"')
    assert moved.headers["location"] == f"{url}&bucket=bucket&key=a%20b&etag=%22{etag}%22"
    for nonsense in ("javascript:alert(1)", "/relative", "https://a\tb/", "https://"):
        fields = {"key": "k", "success_action_redirect": nonsense}
        assert (await post(s3, form(fields=fields))).status == 204


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(), "InvalidArgument"),
        (form(None, {"key": "k"}), "InvalidArgument"),
        (form(fields={"key": "k" * 1025}), "KeyTooLongError"),
        (form(fields={"key": "k", "x-amz-meta-a": "b" * 30_000}), "MaxPostPreDataLengthExceeded"),
        (form(fields={"key": "k", "x-amz-storage-class": "CLOUD"}), "InvalidStorageClass"),
        (form(fields={"key": "k", "x-amz-meta-a": "b\r\nc: d"}), "InvalidArgument"),
        (form(fields={"key": "k", "acl": "nonsense"}), "AccessControlListNotSupported"),
        (form(fields={"key": "k", "tagging": "<x/>"}), "MalformedXML"),
        (form(fields={"key": "k", "signature": "x"}), "InvalidArgument"),
        (form(fields={"key": "k"}).replace(b"--\r\n", b""), "MalformedPOSTRequest"),
        (b"nonsense", "InvalidArgument"),
        (b"", "InvalidArgument"),
        (b"--" + BOUNDARY.encode() + b"\r\nnonsense\r\n\r\nx", "MalformedPOSTRequest"),
    ],
)
async def test_forms_that_are_refused(s3, bucket, body, code):
    answer = await post(s3, body)
    assert (answer.status, s3.code(answer)) == (400, code)
    assert (await s3("HEAD", "/bucket/k")).status == 404


async def test_other_types_of_body_are_refused(s3, bucket):
    for kind in ("text/plain", "multipart/mixed; boundary=x", "application/x-www-form-urlencoded"):
        answer = await s3("POST", "/bucket", headers={"content-type": kind}, body=b"x")
        assert (answer.status, s3.code(answer)) == (412, "PreconditionFailed")
    answer = await s3("POST", "/bucket", headers={"content-type": "multipart/form-data"}, body=b"x")
    assert s3.code(answer) == "MalformedPOSTRequest"


async def test_tags_and_checksums(s3, bucket):
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    fields = {"key": "k", "tagging": tagging, "x-amz-checksum-crc32": "rfPzYw=="}
    assert (await post(s3, form(fields=fields))).status == 204
    assert (await s3("HEAD", "/bucket/k")).headers["x-amz-tagging-count"] == "1"
    answer = await post(s3, form(b"else", fields))
    assert (answer.status, s3.code(answer)) == (400, "BadDigest")
    assert (await s3.get("/bucket/k")).body == b"data"


@pytest.mark.parametrize("identity", [ANONYMOUS, NOBODY], ids=["anonymous", "nobody"])
async def test_strangers_are_refused(s3, objects, identity):
    await s3.put("/bucket", b"")
    before = objects.snapshot()
    answer = await post(s3, form(fields={"key": "k"}), identity=identity)
    assert answer.status == 403
    assert objects.snapshot() == before


async def test_the_key_is_authorized(s3, objects):
    await s3.put("/bucket", b"")
    asked = []

    def allows(action, resource):
        asked.append((action, resource))
        return resource.endswith("/public")

    answer = await post(s3, form(fields={"key": "k"}), identity=NOBODY, allows=allows)
    assert answer.status == 403
    assert ("s3:PutObject", "arn:aws:s3:::bucket/k") in asked
    answer = await post(s3, form(fields={"key": "public"}), identity=NOBODY, allows=allows)
    assert answer.status == 204


FIELDS = {"key": "user/a.txt", "acl": "private", "bucket": "bucket", "content-type": "image/png"}
EVERYTHING = (
    {"bucket": "bucket"},
    ["starts-with", "$key", "user/"],
    {"acl": "private"},
    ["starts-with", "$Content-Type", "image/"],
)


def check(policy, fields=FIELDS, size=4):
    parse_policy(encode(policy)).check(fields, size)


def test_a_policy_that_holds():
    check(document(*EVERYTHING))
    check(document(*EVERYTHING), {**FIELDS, "x-ignore-me": "1", "policy": "p", "file": ""})
    check(document(*EVERYTHING, ["content-length-range", 4, "4"]))
    check(document({"BUCKET": "bucket", "Key": "user/a.txt"}, *EVERYTHING[2:]))
    check(document(*EVERYTHING, ["STARTS-WITH", "$x-amz-meta-any", ""]))
    check(document(*EVERYTHING), {**FIELDS, "content-type": "image/png, image/gif"})


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (document(*EVERYTHING, seconds=-1), FIELDS),
        (document(*EVERYTHING[1:]), FIELDS),
        (document(*EVERYTHING[:2]), FIELDS),
        (document(*EVERYTHING), {**FIELDS, "key": "other/a.txt"}),
        (document(*EVERYTHING), {**FIELDS, "acl": "public-read"}),
        (document(*EVERYTHING), {**FIELDS, "bucket": "another"}),
        (document(*EVERYTHING), {**FIELDS, "content-type": "image/png, text/html"}),
        (document(*EVERYTHING), {**FIELDS, "x-amz-meta-more": "1"}),
        (document(*EVERYTHING), {**FIELDS, "success_action_redirect": "https://evil"}),
        (document(*EVERYTHING, {"x-amz-meta-a": "b"}), FIELDS),
        (document(*EVERYTHING, ["eq", "$key", "USER/A.TXT"]), FIELDS),
        (document(*EVERYTHING, ["starts-with", "$x-amz-meta-a", "b"]), FIELDS),
    ],
)
def test_policies_that_do_not_hold(policy, fields):
    with pytest.raises(AccessDenied):
        check(policy, fields)


@pytest.mark.parametrize(
    ("bounds", "size", "code"),
    [((0, 3), 4, "EntityTooLarge"), ((5, 9), 4, "EntityTooSmall"), ((0, 0), 1, "EntityTooLarge")],
)
def test_sizes_are_bounded(bounds, size, code):
    with pytest.raises(Refusal) as caught:
        check(document(*EVERYTHING, ["content-length-range", *bounds]), size=size)
    assert caught.value.fields["reason"] == code


@pytest.mark.parametrize(
    "found",
    [
        [],
        {},
        {"expiration": "2099-01-01T00:00:00Z"},
        {"conditions": []},
        {"EXPIRATION": "2099-01-01T00:00:00Z", "conditions": []},
        {"expiration": "2099-01-01", "conditions": []},
        {"expiration": "2099-01-01 00:00:00+00:00", "conditions": []},
        {"expiration": 4070908800, "conditions": []},
        document(more=1),
        document({}),
        document([]),
        document(["eq", "$key"]),
        document(["eq", "key", "k"]),
        document(["ends-with", "$key", "k"]),
        document({"key": 1}),
        document({"key": None}),
        document(["content-length-range", 0]),
        document(["content-length-range", -1, 0]),
        document(["content-length-range", 0, True]),
        document(["content-length-range", "a", "b"]),
        document("key"),
    ],
)
def test_malformed_policies(found):
    with pytest.raises(Refusal) as caught:
        parse_policy(encode(found))
    assert caught.value.fields["reason"] == "InvalidPolicyDocument"


@pytest.mark.parametrize("text", ["", "no base64!", "bm8ganNvbg==", "[" * 5000])
def test_policies_that_are_no_documents(text):
    with pytest.raises(Refusal):
        parse_policy(text)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=80).map(lambda raw: raw.replace(b"\0", b"\r\n--" + BOUNDARY.encode())),
    cut=st.integers(1, 40),
)
async def test_any_file_in_any_pieces(data, cut, make_s3):
    """What is in a file ends it only where the boundary is whole, and then the form is another."""
    s3 = make_s3(MemoryObjects())
    await s3.put("/bucket", b"")
    answer = await post(s3, form(data, {"key": "k"}), piece_size_bytes=cut)
    if b"\r\n--" + BOUNDARY.encode() not in data:
        assert answer.status == 204
        assert (await s3.get("/bucket/k")).body == data
    else:
        assert answer.status in (204, 400)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.lists(
        st.binary(max_size=30)
        | st.sampled_from(
            [b"\r\n", b"\r\n\r\n", b"--", BOUNDARY.encode(), b"Content-Disposition: "]
        )
        | st.sampled_from([b'form-data; name="key"', b'form-data; name="file"', b"\xff", b":"]),
        max_size=20,
    ).map(b"".join)
)
async def test_no_form_confuses_it(data, make_s3):
    s3 = make_s3(MemoryObjects())
    await s3.put("/bucket", b"")
    assert (await post(s3, data)).status < 500
    assert (await post(s3, b"--" + BOUNDARY.encode() + b"\r\n" + data)).status < 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("$key"),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_no_policy_confuses_it(found):
    expires = "2099-01-01T00:00:00Z"
    for each in (found, {"expiration": expires, "conditions": found}, document(found)):
        try:
            check(each)
        except (Refusal, AccessDenied):
            pass
