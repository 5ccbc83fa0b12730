"""What comes as XML from strangers, and what goes out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from objectio_api_s3 import tokens
from objectio_api_s3.errors import Refusal
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.xml import (
    element,
    encode_plain,
    encode_url,
    escape,
    escape_strictly,
)

BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""
EXTERNAL = b"""<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<Delete><Object><Key>&a;</Key></Object></Delete>"""


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        EXTERNAL,
        b"<!DOCTYPE Delete><Delete/>",
        b'<!DOCTYPE Delete SYSTEM "http://127.0.0.1/x.dtd"><Delete/>',
        b"<Delete>&unknown;</Delete>",
        b"<a>" * 10 + b"</a>" * 10,
        b"<Delete>" + b"<a/>" * 100_001 + b"</Delete>",
        b"<Delete></delete>",
        b"<Delete/><Delete/>",
        b"\xff\xfe\x00",
        b"",
        b'<?xml version="1.0" encoding="nonsense"?><Delete/>',
        b'<?xml version="1.0" encoding="utf-7"?><Delete/>',
        b'<?xml version="1.0" encoding="idna"?><Delete/>',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_refused(body):
    with pytest.raises(Refusal) as caught:
        parse(body, "Delete")
    assert caught.value.fields["reason"] == "MalformedXML"


def test_depth():
    """A long chain is cut before the tree is built."""
    with pytest.raises(Refusal):
        parse(b"<a>" * 600_000, "a")


TREES = st.recursive(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=10),
    lambda inner: st.lists(st.tuples(st.sampled_from("abc"), inner), min_size=1, max_size=3),
    max_leaves=8,
)


def write(name, content):
    if isinstance(content, str):
        return element(name, content)
    return f"<{name}>{''.join(write(*child) for child in content)}</{name}>"


def read(node):
    if node.children:
        return [(child.name, read(child)) for child in node.children]
    return node.text


def depth(content):
    return 1 if isinstance(content, str) else 1 + max(depth(inner) for _, inner in content)


@given(TREES)
def test_what_is_written_is_read(tree):
    body = write("root", tree).encode()
    if depth(tree) > 8:
        with pytest.raises(Refusal):
            parse(body, "root")
    else:
        assert read(parse(body, "root")) == tree


@settings(max_examples=500)
@given(st.binary(max_size=200) | st.text("<>/!?[]&;CDATA \"'=xD", max_size=60).map(str.encode))
@example(b"<Delete xmlns:a='b'><a:Key/></Delete>")
def test_nothing_but_a_refusal(body):
    try:
        assert isinstance(parse(body, "Delete"), Node)
    except Refusal:
        pass


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_escaping(text):
    shown = escape_strictly(text)
    ET.fromstring(f'<a b="{shown}">{shown}</a>')
    if not any(ord(c) < 32 or c in "\ufffe\uffff" for c in text):
        assert ET.fromstring(f"<a>{escape(text)}</a>").text == (text or None)


@given(st.binary(max_size=40))
def test_url_encoding(key):
    shown = encode_url(key)
    assert unquote_to_bytes(shown) == key
    assert escape(shown) == shown
    assert "+" not in shown
    assert isinstance(encode_plain(key), str)


@given(st.binary(max_size=40))
def test_tokens(position):
    token = tokens.encode(position)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert tokens.decode(token.encode()) == position


@given(st.binary(max_size=30))
def test_foreign_tokens(token):
    try:
        position = tokens.decode(token)
    except Refusal:
        return
    assert tokens.decode(tokens.encode(position).encode()) == position
