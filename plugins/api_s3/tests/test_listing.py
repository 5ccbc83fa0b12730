"""Listings against a model that could not be simpler."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.testing.objects import BytesPayload, MemoryObjects, ObjectAttributes

# Few letters, so that prefixes and delimiters meet.
KEY = st.one_of(
    st.text("ab/", min_size=1, max_size=6),
    st.text("ab/\u00e9\U0001f600&<>\"' +%\x00\n\r\x7f", min_size=1, max_size=5),
).map(str.encode)
KEYS = st.sets(KEY, max_size=25)
PART = st.text("ab/\u00e9", max_size=3).map(str.encode)
DELIMITER = st.sampled_from([b"", b"/", b"a", b"ab", b"//", "\u00e9".encode()])
NO_RESET = [HealthCheck.function_scoped_fixture]


def model(keys, prefix, delimiter, after):
    """All entries behind `after`, in order: (key, False) or (common prefix, True)."""
    entries = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if cut < 0 else (key[: cut + len(delimiter)], True)
        if entry[0] > after:
            entries.add(entry)
    return sorted(entries)


async def filled(make_s3, keys):
    objects = MemoryObjects()
    await objects.create_bucket("bucket", owner="root")
    for key in keys:
        await objects.put_object("bucket", key, BytesPayload(b"x"), ObjectAttributes(), owner="o")
    return make_s3(objects)


def query(**parameters):
    return "&".join(
        f"{name.replace('_', '-')}={quote_from_bytes(value)}" for name, value in parameters.items()
    )


def entries(document, contents="Contents"):
    keys = [(unquote_to_bytes(key), False) for key in document.all(f"{contents}/Key")]
    groups = [(unquote_to_bytes(p), True) for p in document.all("CommonPrefixes/Prefix")]
    assert keys == sorted(keys)
    assert groups == sorted(groups)
    return sorted(keys + groups)


@settings(max_examples=250, deadline=None, suppress_health_check=NO_RESET)
@given(keys=KEYS, prefix=PART, delimiter=DELIMITER, after=PART, limit=st.integers(1, 30))
async def test_v1(make_s3, keys, prefix, delimiter, after, limit):
    s3 = await filled(make_s3, keys)
    asked = query(prefix=prefix, delimiter=delimiter, marker=after, encoding_type=b"url")
    document = await s3.document(f"/bucket?{asked}&max-keys={limit}")
    expected = model(keys, prefix, delimiter, after)
    assert document.name == "ListBucketResult"
    assert entries(document) == expected[:limit]
    cut = len(expected) > limit
    assert document.one("IsTruncated") == ("true" if cut else "false")
    following = document.one("NextMarker")
    if cut and delimiter:
        assert unquote_to_bytes(following) == expected[limit - 1][0]
    else:
        assert following is None
    assert unquote_to_bytes(document.one("Prefix")) == prefix
    assert unquote_to_bytes(document.one("Marker")) == after
    assert document.one("MaxKeys") == str(limit)


@settings(max_examples=250, deadline=None, suppress_health_check=NO_RESET)
@given(keys=KEYS, prefix=PART, delimiter=DELIMITER, after=PART, limit=st.integers(1, 30))
async def test_v2_page_by_page(make_s3, keys, prefix, delimiter, after, limit):
    s3 = await filled(make_s3, keys)
    asked = query(prefix=prefix, delimiter=delimiter, start_after=after, encoding_type=b"url")
    expected = model(keys, prefix, delimiter, after)
    found, token = [], ""
    for _ in range(100):
        document = await s3.document(f"/bucket?list-type=2&{asked}&max-keys={limit}{token}")
        page = entries(document)
        assert document.one("KeyCount") == str(len(page))
        assert len(page) == min(limit, len(expected) - len(found))
        found += page
        following = document.one("NextContinuationToken")
        assert (following is not None) == (document.one("IsTruncated") == "true")
        if following is None:
            break
        assert following not in {unquote(k.decode(errors="replace")) for k, _ in expected}
        token = f"&continuation-token={following}"
    assert found == expected


@settings(max_examples=150, deadline=None, suppress_health_check=NO_RESET)
@given(keys=KEYS, prefix=PART, delimiter=DELIMITER, after=PART, limit=st.integers(1, 30))
async def test_versions(make_s3, keys, prefix, delimiter, after, limit):
    s3 = await filled(make_s3, keys)
    asked = query(prefix=prefix, delimiter=delimiter, encoding_type=b"url")
    expected = model(keys, prefix, delimiter, after)
    found, markers = [], f"&key-marker={quote_from_bytes(after)}"
    for _ in range(100):
        document = await s3.document(f"/bucket?versions&{asked}&max-keys={limit}{markers}")
        assert document.name == "ListVersionsResult"
        found += entries(document, "Version")
        assert set(document.all("Version/VersionId")) <= {"null"}
        assert set(document.all("Version/IsLatest")) <= {"true"}
        if document.one("IsTruncated") == "false":
            break
        markers = f"&key-marker={document.one('NextKeyMarker')}"
        if version := document.one("NextVersionIdMarker"):
            markers += f"&version-id-marker={version}"
    assert found == expected


@settings(max_examples=100, deadline=None, suppress_health_check=NO_RESET)
@given(keys=st.sets(st.text("ab/&<>\"'\u00e9\n\r\t", min_size=1, max_size=6), max_size=20))
async def test_plain_encoding_shows_what_xml_can(make_s3, keys):
    s3 = await filled(make_s3, [key.encode() for key in keys])
    document = await s3.document("/bucket")
    assert document.all("Contents/Key") == sorted(keys, key=str.encode)


async def test_control_characters_in_plain_encoding(make_s3):
    """XML cannot hold them; S3 writes references nevertheless."""
    s3 = await filled(make_s3, [b"a\x01b"])
    assert "<Key>a&#x1;b</Key>" in (await s3("GET", "/bucket")).text


async def test_keys_that_are_no_utf8(make_s3):
    """Written by another front end."""
    s3 = await filled(make_s3, [b"a\xff"])
    assert (await s3.document("/bucket")).all("Contents/Key") == ["a\ufffd"]
    document = await s3.document("/bucket?encoding-type=url")
    assert document.all("Contents/Key") == ["a%FF"]


async def test_the_prefix_that_the_first_version_shows(s3, bucket):
    for prefix, shown in (("a%20b%2B", "a b+"), ("%0A", "\n"), ("%01", "%01"), ("%FF", "%FF")):
        document = await s3.document(f"/bucket?encoding-type=url&prefix={prefix}")
        assert document.one("Prefix") == shown
    document = await s3.document("/bucket?encoding-type=url&list-type=2&prefix=a%20b")
    assert document.one("Prefix") == "a%20b"


async def test_unordered_listings_have_no_delimiter(s3, bucket):
    for version in ("", "&list-type=2"):
        query = f"/bucket?allow-unordered=true{version}"
        assert (await s3("GET", query)).status == 200
        assert await s3.refused("GET", f"{query}&delimiter=/") == (400, "InvalidArgument")


async def test_what_is_said_of_an_object(s3, bucket):
    answer = await s3.put("/bucket/key", b"12345", {"x-amz-storage-class": "REDUCED_REDUNDANCY"})
    for asked, owned in (
        ("", True),
        ("?list-type=2", False),
        ("?list-type=2&fetch-owner=true", True),
    ):
        document = await s3.document(f"/bucket{asked}")
        assert document.one("Name") == "bucket"
        assert document.one("Contents/ETag") == answer.headers["etag"]
        assert document.one("Contents/Size") == "5"
        assert document.one("Contents/StorageClass") == "REDUCED_REDUNDANCY"
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", document.one("Contents/LastModified")
        )
        assert document.one("Contents/Owner/ID") == ("root" if owned else None)
        assert document.one("Delimiter") is None
        assert document.one("EncodingType") is None
    document = await s3.document("/bucket?versions")
    assert document.one("Version/Owner/DisplayName") == "root"
    assert document.one("Version/ETag") == answer.headers["etag"]


async def test_echoes_of_v2(s3, bucket):
    for key in "abc":
        await s3.put(f"/bucket/{key}")
    document = await s3.document("/bucket?list-type=2&start-after=a&max-keys=1&delimiter=%2F")
    assert document.one("StartAfter") == "a"
    assert document.one("Delimiter") == "/"
    token = document.one("NextContinuationToken")
    document = await s3.document(f"/bucket?list-type=2&start-after=a&continuation-token={token}")
    assert document.one("ContinuationToken") == token
    assert document.one("StartAfter") == "a"
    assert document.all("Contents/Key") == ["c"]
    document = await s3.document("/bucket?list-type=2&continuation-token=")
    assert document.one("ContinuationToken") == ""
    assert document.one("KeyCount") == "3"


async def test_max_keys(s3, bucket):
    for number in range(3):
        await s3.put(f"/bucket/{number}")
    for asked in ("", "?list-type=2", "?versions"):
        join = "&" if asked else "?"
        document = await s3.document(f"/bucket{asked}{join}max-keys=0")
        assert document.one("IsTruncated") == "false"
        assert document.one("MaxKeys") == "0"
        assert document.count("Contents") + document.count("Version") == 0
        document = await s3.document(f"/bucket{asked}{join}max-keys=5000")
        assert document.one("MaxKeys") == "1000"
        document = await s3.document(f"/bucket{asked}{join}max-keys=")
        assert document.one("MaxKeys") == "1000"
        for value in ("x", "-1", "1.5", "99999999999", "%C2%B2"):
            refused = await s3.refused("GET", f"/bucket{asked}{join}max-keys={value}")
            assert refused == (400, "InvalidArgument")
        missing = await s3.refused("GET", f"/missing{asked}{join}max-keys=0")
        assert missing == (404, "NoSuchBucket")


async def test_a_full_page(make_s3):
    s3 = await filled(make_s3, [b"%04d" % number for number in range(1001)])
    document = await s3.document("/bucket?list-type=2")
    assert document.one("KeyCount") == "1000"
    assert document.one("IsTruncated") == "true"
    document = await s3.document("/bucket?list-type=2&max-keys=100000")
    assert document.one("KeyCount") == "1000"


@pytest.mark.parametrize(
    "asked",
    [
        "encoding-type=base64",
        "list-type=3",
        "list-type=2&continuation-token=key",
        "list-type=2&continuation-token=%ff",
        "versions&version-id-marker=null",
    ],
)
async def test_nonsense(s3, bucket, asked):
    assert await s3.refused("GET", f"/bucket?{asked}") == (400, "InvalidArgument")


async def test_delete_markers_are_shown():
    """Made by a store that knows versions."""
    from objectio_api_s3.operations.listing import _versions
    from objectio_api_s3.xml import encode_plain

    from objectio.abc.objects import ListedObject

    marker = ListedObject(b"k", 0, "", 0, "STANDARD", "o", "v2", True, True)
    old = ListedObject(b"k", 3, "e", 0, "STANDARD", "o", "v1", False)
    shown = _versions([marker, old], encode_plain, None)
    assert shown.startswith("<DeleteMarker><Key>k</Key><VersionId>v2</VersionId>")
    assert "<Version><Key>k</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>" in shown
