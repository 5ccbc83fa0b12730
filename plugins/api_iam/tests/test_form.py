"""The parameters of the query protocol and the answers in XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objectio_api_iam import errors, xml
from objectio_api_iam.errors import Refusal
from objectio_api_iam.form import FIELDS_MAX, parse_form


def test_values_and_lists():
    form = parse_form(
        b"Action=TagUser&UserName=a%2Bb&Tags.member.2.Key=y&Tags.member.2.Value=&"
        b"Tags.member.10.Key=z&Tags.member.10.Value=3&Tags.member.1.Key=x&Tags.member.1.Value=1&"
        b"Ids.member.2=two&Ids.member.1=one&Number=12&Empty="
    )
    assert form.get("UserName") == "a+b"
    assert list(form.tags().items()) == [("x", "1"), ("y", ""), ("z", "3")]
    assert form.texts("Ids") == ["one", "two"]
    assert form.number("Number", 1) == 12
    assert form.number("Missing", 1) == 1
    assert "Empty" in form
    with pytest.raises(Refusal):
        form.need("Empty")
    with pytest.raises(Refusal):
        form.refuse("Tags")
    form.refuse("Tag", "Other")


@pytest.mark.parametrize(
    "body",
    [
        b"a",
        b"a=1&a=2",
        b"a=%ff",
        b"a=\xff",
        b"a=1&&b=2",
        b"&".join(b"a%d=1" % number for number in range(FIELDS_MAX + 1)),
    ],
)
def test_what_is_no_form(body):
    with pytest.raises(Refusal) as raised:
        parse_form(body)
    assert raised.value.code == "MalformedQueryString"


@pytest.mark.parametrize(
    "body",
    [
        b"Tags.member.0.Key=a&Tags.member.0.Value=b",
        b"Tags.1.Key=a",
        b"Tags.member.1.Key=a",
        b"Tags.member.1.Value=a",
        b"Tags.member.1.Key=a&Tags.member.1.Value=1&Tags.member.2.Key=A&Tags.member.2.Value=2",
    ],
)
def test_what_is_no_list_of_tags(body):
    with pytest.raises(Refusal):
        parse_form(body).tags()


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_refused(body):
    answer = None
    try:
        form = parse_form(body)
        form.tags()
        form.number("a", 0)
    except Refusal as refusal:
        answer = errors.explain(refusal)
    assert answer is None or answer.status == 400


@given(st.text(max_size=40))
def test_any_text_comes_back_from_an_answer(text):
    answer = xml.answer("Ask", "urn:x", {"Is": True, "Items": [{"Text": text}]}, "R1")
    root = ET.fromstring(answer)
    found = root.find("{urn:x}AskResult/{urn:x}Items/{urn:x}member/{urn:x}Text")
    assert found is not None
    if text.isprintable():
        assert (found.text or "") == text
    assert root.findtext("{urn:x}ResponseMetadata/{urn:x}RequestId") == "R1"
