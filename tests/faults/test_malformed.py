"""Requests that no client should send: an S3 error of the right code, nothing stored, nothing kept."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import time
import xml.etree.ElementTree as ET

import pytest

from objectio.iam.credentials import root_credential
from objectio.iam.signer import ChunkSigner, encode_unsigned_chunks, presign, sign_request
from objectio.testing.cluster import LocalServer

KEY = b"/faults/key"
BODY = b"0123456789" * 100
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest().encode()
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


def sha256(body):
    return hashlib.sha256(body).hexdigest().encode()


class Wire:
    """Signed requests as bytes, and what comes back, over bare sockets."""

    def __init__(self, server):
        self.server = server
        self.credential = root_credential(*server.credentials)
        self.host = "{}:{}".format(*server.address).encode()

    def head(self, method=b"PUT", path=KEY, query=b"", headers=(), mode=b"UNSIGNED-PAYLOAD"):
        signed = sign_request(
            self.credential,
            method.decode(),
            path,
            query,
            [(b"host", self.host), *headers],
            content_sha256=mode,
        )
        return self.lines(method, path, query, signed), signed

    @staticmethod
    def lines(method, path, query, headers):
        target = path + (b"?" + query if query else b"")
        lines = [method + b" " + target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"", b""])

    def request(self, body=b"", headers=(), length=None, **more):
        size = str(len(body)).encode() if length is None else length
        return self.head(headers=[(b"content-length", size), *headers], **more)[0] + body

    def open(self):
        connection = socket.create_connection(self.server.address, timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, data, end=False):
        """Send and, with `end`, say that nothing more comes; return the answer."""
        with self.open() as connection:
            try:
                connection.sendall(data)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server had heard enough
            return self.read(connection)

    @staticmethod
    def read(connection):
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
                if complete(received):
                    break
        except ConnectionResetError:
            pass
        return received


def complete(received):
    head, separator, rest = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(separator and length) and len(rest) >= int(length.group(1))


def parse(received):
    """(status, code, body)"""
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    code = ET.fromstring(body).findtext("Code") if body.startswith(b"<?xml") else None
    return status, code, body


@pytest.fixture(scope="module")
def store(tmp_path_factory, store_of):
    settings = {"gateway.body_idle_seconds": "2"}
    with LocalServer(tmp_path_factory.mktemp("malformed") / "data", settings=settings) as server:
        store = store_of(server)
        store.make_bucket()
        yield store
        store.close()


@pytest.fixture
def wire(store):
    return Wire(store.server)


def chunked(wire, body, decoded=1000, mode=UNSIGNED_TRAILER, length=None, more=()):
    return wire.request(
        body,
        [
            (b"content-encoding", b"aws-chunked"),
            (b"x-amz-decoded-content-length", str(decoded).encode()),
            *more,
        ],
        mode=mode,
        length=length,
    )


def signed_chunks(wire, spoil):
    size = len(BODY)
    headers = [
        (b"content-encoding", b"aws-chunked"),
        (b"x-amz-decoded-content-length", str(size).encode()),
        (b"content-length", b"1174"),
    ]
    head, signed = wire.head(headers=headers, mode=SIGNED_CHUNKS)
    body = b"".join(ChunkSigner(wire.credential, signed).encode(BODY, 1024))
    assert len(body) == 1174, len(body)
    return head + spoil(body)


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
<!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;">
]><Delete><Object><Key>&g;</Key></Object></Delete>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Delete><Object><Key>&x;</Key></Object></Delete>"""


def delete_objects(wire, body):
    md5 = base64.b64encode(hashlib.md5(body).digest())
    return wire.request(
        body, [(b"content-md5", md5)], method=b"POST", path=b"/faults", query=b"delete="
    )


def expired(wire):
    headers = [(b"host", wire.host)]
    query = presign(
        wire.credential, "PUT", KEY, headers=headers, expires_seconds=60, now=time.time() - 120
    )
    more = [(b"content-length", str(len(BODY)).encode())]
    return wire.lines(b"PUT", KEY, query, [*headers, *more]) + BODY


def flip_signature(data):
    """Another first digit in the first signature."""
    head, name, rest = re.split(rb"(?i)(signature=)", data, maxsplit=1)
    return head + name + (b"1" if rest[:1] == b"0" else b"0") + rest[1:]


def tampered(wire):
    return flip_signature(wire.request(BODY))


def unknown_key(wire):
    return wire.request(BODY).replace(wire.credential.access_key.encode(), b"AKIANOBODYKNOWSTHIS1")


CASES = {
    "garbage for a chunk": (
        lambda wire: chunked(wire, b"this is no chunk\r\n" * 10),
        400, "InvalidRequest"),
    "a chunk of negative size": (
        lambda wire: chunked(wire, b"-5\r\nabcde\r\n0\r\n\r\n"), 400, "InvalidRequest"),
    "a chunk of huge size": (
        lambda wire: chunked(wire, b"f" * 17 + b"\r\nabcde"), 400, "InvalidRequest"),
    "chunks that end early": (
        lambda wire: chunked(wire, b"5\r\nabcde\r\n0\r\n\r\n"), 400, "IncompleteBody"),
    "chunks that hold too much": (
        lambda wire: chunked(wire, b"".join(encode_unsigned_chunks(BODY * 2, 512))),
        400, "InvalidRequest"),
    "chunks without their sizes' sum": (
        lambda wire: chunked(wire, b"", decoded="many"), 400, "InvalidArgument"),
    "a chunk with another signature": (
        lambda wire: signed_chunks(wire, flip_signature),
        403, "SignatureDoesNotMatch"),
    "a chunk with other bytes": (
        lambda wire: signed_chunks(wire, lambda body: body.replace(b"0123", b"9123", 1)),
        403, "SignatureDoesNotMatch"),
    "another signature": (tampered, 403, "SignatureDoesNotMatch"),
    "an unknown access key": (unknown_key, 403, "InvalidAccessKeyId"),
    "a presigned URL that expired": (expired, 403, "AccessDenied"),
    "no signature": (
        lambda wire: wire.lines(
            b"PUT", KEY, b"", [(b"host", wire.host), (b"content-length", b"4")]) + b"data",
        403, "AccessDenied"),
    "another SHA-256": (
        lambda wire: wire.request(BODY, mode=sha256(b"other")), 400, "XAmzContentSHA256Mismatch"),
    "another MD5": (
        lambda wire: wire.request(
            BODY, [(b"content-md5", base64.b64encode(hashlib.md5(b"other").digest()))]),
        400, "BadDigest"),
    "an MD5 that is none": (
        lambda wire: wire.request(BODY, [(b"content-md5", b"bm9uZQ==")]), 400, "InvalidDigest"),
    "another CRC": (
        lambda wire: wire.request(BODY, [(b"x-amz-checksum-crc32", b"AAAAAA==")]), 400, "BadDigest"),
    "a CRC that is none": (
        lambda wire: wire.request(BODY, [(b"x-amz-checksum-crc32", b"%%%")]), 400, "BadDigest"),
    "another CRC in the trailer": (
        lambda wire: chunked(
            wire,
            b"".join(encode_unsigned_chunks(BODY, 512, [(b"x-amz-checksum-crc32", b"AAAAAA==")])),
            more=[(b"x-amz-trailer", b"x-amz-checksum-crc32")]),
        400, "BadDigest"),
    "no content length": (
        lambda wire: wire.head()[0], 411, "MissingContentLength"),
    "a content length of letters": (
        lambda wire: wire.request(BODY, length=b"many"), 400, None),
    "a negative content length": (
        lambda wire: wire.request(BODY, length=b"-5"), 400, None),
    "two content lengths": (
        lambda wire: wire.request(BODY, [(b"content-length", b"7")]), 400, None),
    "a content length beyond all bounds": (
        lambda wire: wire.request(BODY, length=b"9" * 40), 400, None),
    "more than may be put at once": (
        lambda wire: wire.request(b"", length=b"6000000000"), 400, "EntityTooLarge"),
    "an unknown method": (
        lambda wire: wire.request(b"", method=b"BREW"), 400, None),
    "a method that S3 does not have": (
        lambda wire: wire.request(b"", method=b"PATCH"), 405, "MethodNotAllowed"),
    "XML that is none": (
        lambda wire: delete_objects(wire, b"<Delete><Object>"), 400, "MalformedXML"),
    "XML of another kind": (
        lambda wire: delete_objects(wire, b"<Other/>"), 400, "MalformedXML"),
    "bytes for XML": (
        lambda wire: delete_objects(wire, bytes(range(256))), 400, "MalformedXML"),
    "a billion laughs": (lambda wire: delete_objects(wire, LAUGHS), 400, "MalformedXML"),
    "an external entity": (lambda wire: delete_objects(wire, EXTERNAL), 400, "MalformedXML"),
    "XML without end": (
        lambda wire: delete_objects(wire, b"<a>" * 700_000), 400, "MaxMessageLengthExceeded"),
    "deep XML": (
        lambda wire: delete_objects(wire, b"<a>" * 100_000), 400, "MalformedXML"),
    "a huge header": (
        lambda wire: wire.request(b"", [(b"x-amz-meta-a", b"a" * 200_000)]), 431, None),
    "many headers": (
        lambda wire: wire.request(b"", [(b"x-amz-meta-%d" % n, b"a" * 50) for n in range(5000)]),
        431, None),
    "a huge target": (
        lambda wire: wire.request(b"", path=b"/faults/" + b"k" * 200_000), 431, None),
    "metadata beyond bounds": (
        lambda wire: wire.request(b"", [(b"x-amz-meta-a", b"a" * 3000)]), 400, "MetadataTooLarge"),
    "a key beyond bounds": (
        lambda wire: wire.request(b"", path=b"/faults/" + b"k" * 1025), 400, "KeyTooLongError"),
    "no HTTP at all": (lambda wire: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, 400, None),
    "zeroes": (lambda wire: bytes(10_000), 400, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_malformed(store, wire, name):
    make, status, code = CASES[name]
    received = wire.exchange(make(wire))
    assert received, "no answer"
    found = parse(received)
    assert found[:2] == (status, code), found
    check_answer(received, store)
    assert store.keys() == []


CUT = {
    "chunks": lambda wire: signed_chunks(wire, lambda body: body[:700]),
    "a small body": lambda wire: wire.request(BODY, length=b"2000"),
    "a large body": lambda wire: wire.request(BODY * 6000, length=b"50000000"),
    "a part of the head": lambda wire: wire.request(BODY)[:200],
    "nothing": lambda wire: b"",
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("end", [True, False], ids=["closed", "silent"])
def test_cut_off(store, wire, name, end, eventually):
    """A client that goes away, or falls silent, in the middle of a body."""
    if not end and name in ("a part of the head", "nothing"):
        pytest.skip("a connection may be idle between requests")
    received = wire.exchange(CUT[name](wire), end)
    if not end:
        assert parse(received)[:2] == (400, "RequestTimeout")
        check_answer(received, store)
    eventually(lambda: store.server.metric("objectio_gateway_requests_in_flight") == 0)
    assert store.keys() == []


def test_more_bytes_than_declared_are_not_part_of_the_body(store, wire):
    """RFC 9112 §6.3: the body ends where it was declared to end. What follows is no request, and
    ends the connection; but the request before it was one."""
    with wire.open() as connection:
        connection.sendall(wire.request(BODY) + BODY)
        assert parse(wire.read(connection))[0] == 200
        assert wire.read(connection) == b""
    assert store.get("key") == BODY
    store.delete("key")


def test_garbage_behind_a_request_does_not_get_into_its_answer(store, wire, blob_of_bytes):
    data = blob_of_bytes(9_000_000)
    store.put("key", data)
    with wire.open() as connection:
        connection.sendall(wire.request(b"", method=b"GET"))
        first = connection.recv(100_000)
        connection.sendall(b"garbage\r\n\r\n" * 10)
        pieces = [first]
        while piece := connection.recv(1 << 20):
            pieces.append(piece)
    status, _, body = parse(b"".join(pieces))
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()
    store.delete("key")


def test_nothing_is_kept_of_them(store, wire, eventually):
    """Neither memory nor places: after hundreds of them the server is as it was."""
    requests = [make(wire) for name, (make, _, _) in CASES.items() if name != "XML without end"]

    def send_all(times):
        for _ in range(times):
            for data in requests:
                wire.exchange(data)

    send_all(3)
    eventually(lambda: store.server.metric("objectio_gateway_requests_in_flight") == 0)
    before = store.server.memory_bytes()
    send_all(13)
    eventually(lambda: store.server.metric("objectio_gateway_requests_in_flight") == 0)
    assert 13 * len(requests) >= 500
    assert store.server.memory_bytes() - before < 16 << 20
    assert store.server.metric("objectio_store_memory_bytes") == 0
    assert store.keys() == []


@pytest.mark.parametrize("leave", ["closes", "resets", "falls silent"])
def test_large_uploads_that_break_off_give_their_memory_back(
    store, wire, eventually, blob_of_bytes, leave
):
    """More of them than stripes fit into memory; then a client that does it right."""
    data = wire.request(bytes(5 << 20), length=b"100000000")
    connections = [wire.open() for _ in range(30)]
    for connection in connections:
        connection.setblocking(False)
    views = {connection: memoryview(data) for connection in connections}
    eventually(lambda: send_some(views) < len(data), 20)  # all have begun, most wait for memory
    assert store.server.metric("objectio_store_memory_bytes") > 0
    if leave != "falls silent":
        for connection in connections:
            if leave == "resets":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
    good = blob_of_bytes(12_000_000)
    store.put("good", good)
    assert store.get("good") == good
    eventually(lambda: store.server.metric("objectio_store_memory_bytes") == 0)
    eventually(lambda: store.server.metric("objectio_gateway_requests_in_flight") == 0)
    for connection in connections:
        connection.close()
    store.delete("good")
    assert store.keys() == []


def send_some(views):
    """Send what the sockets take. Returns how many bytes the one that is behind most has left."""
    for connection, view in views.items():
        try:
            views[connection] = view[connection.send(view) :] if view else view
        except BlockingIOError:
            pass
    return max(len(view) for view in views.values())


def check_answer(received, store):
    told = (b"Traceback", b'File "', b".py", str(store.server.data_dir).encode(), b"root:")
    assert not any(word in received for word in told), received
