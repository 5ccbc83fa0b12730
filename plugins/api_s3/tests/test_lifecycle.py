"""Lifecycle configurations: what is understood, shown again, and refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from objectio_api_s3.configuration.lifecycle import parse_lifecycle, parse_midnight, show_lifecycle
from objectio_api_s3.errors import Refusal
from objectio_api_s3.parse import parse

from objectio.errors import OperationNotImplemented
from objectio.model.bucket import Lifecycle, LifecycleFilter, decode_document, encode_document


def wrap(*rules):
    inner = "".join(f"<Rule>{rule}</Rule>" for rule in rules)
    return f"<LifecycleConfiguration>{inner}</LifecycleConfiguration>"


def rule(scope="<Filter/>", action="<Expiration><Days>1</Days></Expiration>", name="one"):
    return f"<ID>{name}</ID>{scope}<Status>Enabled</Status>{action}"


def read(document):
    return parse_lifecycle(parse(document.encode(), "LifecycleConfiguration"))


TAG = "<Tag><Key>k</Key><Value>v</Value></Tag>"
SIZES = (
    "<ObjectSizeGreaterThan>10</ObjectSizeGreaterThan><ObjectSizeLessThan>20</ObjectSizeLessThan>"
)
AND = f"<And><Prefix>a</Prefix>{TAG}{SIZES}</And>"
MARKER = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
ABORT = (
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>"
    "</AbortIncompleteMultipartUpload>"
)
NONCURRENT = (
    "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>"
    "<NewerNoncurrentVersions>5</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
)


@pytest.mark.parametrize(
    "one",
    [
        rule(),
        rule("<Prefix>a/</Prefix>"),
        rule("<Prefix></Prefix>"),
        rule("<Filter><Prefix></Prefix></Filter>"),
        rule("<Filter><Prefix>a&amp;b</Prefix></Filter>"),
        rule(f"<Filter>{TAG}</Filter>"),
        rule(f"<Filter><And><Prefix>a</Prefix>{TAG}{SIZES}</And></Filter>"),
        rule(f"<Filter><Prefix>a</Prefix>{TAG}</Filter>"),
        rule(action=MARKER),
        rule(action=MARKER.replace("true", "false")),
        rule(action="<Expiration><Date>2030-01-02T00:00:00.000Z</Date></Expiration>"),
        rule(action=NONCURRENT + ABORT),
        rule(action="<Expiration><Days>4</Days></Expiration>" + NONCURRENT + ABORT),
        rule().replace("Enabled", "Disabled"),
    ],
)
def test_what_is_written_is_shown(one):
    found = decode_document(encode_document(read(wrap(one))), Lifecycle)
    shown = f"<LifecycleConfiguration>{show_lifecycle(found)}</LifecycleConfiguration>"
    canonical = ET.canonicalize(wrap(one))
    assert ET.canonicalize(shown) == canonical


def test_what_it_means():
    found = read(
        wrap(rule(f"<Filter><And><Prefix>a</Prefix>{TAG}{SIZES}</And></Filter>", NONCURRENT))
    ).rules[0]
    assert found.filter == LifecycleFilter(
        prefix="a", tags={"k": "v"}, size_greater_than=10, size_less_than=20
    )
    assert (found.noncurrent_days, found.newer_noncurrent_versions) == (2, 5)
    assert (found.expire_days, found.expire_date_ms, found.expire_delete_marker) == (
        None,
        None,
        False,
    )
    assert read(wrap(rule(action=MARKER))).rules[0].expire_delete_marker
    assert read(wrap(rule(action=ABORT))).rules[0].abort_upload_days == 3


def test_tests_beside_an_and_must_hold_too():
    """AWS refuses them; the public suite sends them."""
    other = "<Tag><Key>l</Key><Value>w</Value></Tag>"
    low = "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>"
    both = f"<And><Prefix>a</Prefix>{other}{SIZES}</And>"
    found = read(wrap(rule(f"<Filter><Prefix>a/</Prefix>{TAG}{low}{both}</Filter>"))).rules[0]
    assert found.filter == LifecycleFilter(
        prefix="a/", tags={"k": "v", "l": "w"}, size_greater_than=10, size_less_than=20
    )


def test_ids_are_made_up():
    one = rule().replace("<ID>one</ID>", "")
    names = {rule.id for rule in read(wrap(one, one)).rules}
    assert len(names) == 2
    assert all(names)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<LifecycleConfiguration/>", "MalformedXML"),
        (wrap(*(rule(name=f"r{at}") for at in range(1001))), "MalformedXML"),
        (wrap(rule(name="a" * 256)), "InvalidArgument"),
        (wrap(rule(), rule("<Prefix>b</Prefix>")), "InvalidArgument"),
        (wrap(rule().replace("Enabled", "enabled")), "MalformedXML"),
        (wrap(rule("")), "MalformedXML"),
        (wrap(rule("<Prefix>a</Prefix><Filter/>")), "MalformedXML"),
        (wrap(rule("<Filter><Other/></Filter>")), "MalformedXML"),
        (wrap(rule("<Filter><And/></Filter>")), "MalformedXML"),
        (wrap(rule(f"<Filter><Prefix>b</Prefix>{AND}</Filter>")), "MalformedXML"),
        (wrap(rule(f"<Filter>{TAG.replace('>v<', '>w<')}{AND}</Filter>")), "MalformedXML"),
        (wrap(rule(f"<Filter>{TAG}{TAG}</Filter>")), "InvalidRequest"),
        (wrap(rule(f"<Filter>{SIZES.replace('20', '5')}</Filter>")), "InvalidRequest"),
        (wrap(rule("<Prefix>" + "a" * 1025 + "</Prefix>")), "InvalidRequest"),
        (wrap(rule(action="")), "InvalidRequest"),
        (wrap(rule(action="<Expiration/>")), "MalformedXML"),
        (wrap(rule(action="<Expiration><Days>0</Days></Expiration>")), "InvalidArgument"),
        (wrap(rule(action="<Expiration><Days>1.5</Days></Expiration>")), "MalformedXML"),
        (
            wrap(rule(action="<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>")),
            "MalformedXML",
        ),
        (
            wrap(rule(action="<Expiration><Date>1970-08-22T19:21:41Z</Date></Expiration>")),
            "InvalidArgument",
        ),
        (wrap(rule(action="<Expiration><Date>soon</Date></Expiration>")), "MalformedXML"),
        (wrap(rule(action="<Expiration><Date>2030-02-30</Date></Expiration>")), "MalformedXML"),
        (wrap(rule(f"<Filter>{TAG}</Filter>", MARKER)), "InvalidRequest"),
        (wrap(rule(f"<Filter>{TAG}</Filter>", ABORT)), "InvalidRequest"),
        (wrap(rule(f"<Filter>{SIZES}</Filter>", ABORT)), "InvalidRequest"),
        (wrap(rule(action=NONCURRENT.replace("2<", "0<"))), "InvalidArgument"),
        (wrap(rule(action=NONCURRENT.replace("5<", "101<"))), "InvalidArgument"),
        (wrap(rule(action=ABORT.replace("3<", "0<"))), "InvalidArgument"),
    ],
)
def test_refused(body, code):
    with pytest.raises(Refusal) as caught:
        read(body)
    assert caught.value.fields["reason"] == code


def test_transitions_are_refused():
    action = (
        "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>"
        "<Expiration><Days>60</Days></Expiration>"
    )
    with pytest.raises(OperationNotImplemented):
        read(wrap(rule(action=action)))


@pytest.mark.parametrize("date", ["1970-08-23T00:15:27Z", "tomorrow"])
def test_a_false_date_of_a_transition_is_told_first(date):
    action = f"<Transition><Date>{date}</Date><StorageClass>GLACIER</StorageClass></Transition>"
    with pytest.raises(Refusal):
        read(wrap(rule(action=action)))


def test_midnight():
    assert parse_midnight("2017-09-27") == 1_506_470_400_000
    assert parse_midnight("2017-09-27T00:00:00Z") == 1_506_470_400_000
    assert parse_midnight("2017-09-27T00:00:00.000Z") == 1_506_470_400_000
    assert parse_midnight("2017-09-27T00:00:00+00:00") == 1_506_470_400_000


async def test_put_get_delete(s3, bucket):
    path = "/bucket?lifecycle"
    minimum = "x-amz-transition-default-minimum-object-size"
    await s3.put(path, wrap(rule()).encode())
    answer = await s3("GET", path)
    assert answer.headers[minimum] == "all_storage_classes_128K"
    assert (await s3.document(path)).one("Rule/Expiration/Days") == "1"
    answer = await s3.put(path, wrap(rule()).encode(), {minimum: "varies_by_storage_class"})
    assert answer.headers[minimum] == "varies_by_storage_class"
    assert (await s3("GET", path)).headers[minimum] == "varies_by_storage_class"
    refused = await s3.refused("PUT", path, body=wrap(rule()).encode(), headers={minimum: "x"})
    assert refused == (400, "InvalidArgument")
    for _ in range(2):
        assert (await s3("DELETE", path)).status == 204
    assert await s3.refused("GET", path) == (404, "NoSuchLifecycleConfiguration")
