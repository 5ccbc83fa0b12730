"""Where the keys of issuers may be fetched from, and how long that may take."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from objectio_api_iam import fetch
from objectio_api_iam.errors import Refusal
from objectio_api_iam.fetch import Fetcher, is_public


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"],
)
def test_addresses_of_the_internet(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "localhost",
        "",
    ],
)
def test_addresses_inside(address):
    assert not is_public(address)


class Listener:
    """Counts who connects, says `answer` and then keeps silent."""

    def __init__(self, answer=b""):
        self.connected = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self._held = []
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connected += 1
            self._held.append(connection)
            if self._answer:
                connection.sendall(self._answer)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)
        for connection in self._held:
            connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://2130706433:{port}/",
        "https://user@127.0.0.1:{port}/",
        "file://127.0.0.1/etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "https://127.0.0.1:0/",
        "https://127.0.0.1:99999/",
        "https:///path",
        "",
    ],
)
async def test_nothing_inside_is_connected_to(url):
    with Listener() as listener:
        named = url.replace("{port}", str(listener.port))
        with pytest.raises(Refusal) as raised:
            await Fetcher([], 5.0).fetch(named, named)
        assert raised.value.code == "IDPCommunicationError"
        assert listener.connected == 0


async def test_only_the_documents_of_a_trusted_issuer_are_fetched_inside():
    with Listener() as listener:
        inside = f"http://127.0.0.1:{listener.port}"
        fetcher = Fetcher([f"{inside}/realm"], 5.0)
        with pytest.raises(Refusal):
            await fetcher.fetch(f"{inside}/keys", "https://idp.example.com")
        assert listener.connected == 0


async def test_a_name_that_has_a_private_address_too_is_refused(monkeypatch):
    """Whoever answers with one of each hopes that the second is taken."""

    def resolve(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers[-1]]

    connected, answers = [], []
    monkeypatch.setattr(fetch.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(
        fetch.socket, "create_connection", lambda address, *_: connected.append(address)
    )
    for answer in (["1.1.1.1", "127.0.0.1"], ["127.0.0.1"], []):
        answers.append(answer)
        with pytest.raises(Refusal):
            await Fetcher([], 5.0).fetch("https://idp.example.com/", "https://idp.example.com")
    assert connected == []


async def test_a_redirect_is_not_followed():
    with Listener() as inside:
        location = f"http://127.0.0.1:{inside.port}/"
        answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        with Listener(answer.encode()) as issuer:
            url = f"http://127.0.0.1:{issuer.port}/"
            with pytest.raises(Refusal):
                await Fetcher([url, location], 5.0).fetch(url, url)
            assert issuer.connected == 1
        assert inside.connected == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_who_keeps_silent_keeps_nobody(answer):
    with Listener(answer) as issuer:
        url = f"http://127.0.0.1:{issuer.port}/"
        started = time.monotonic()
        with pytest.raises(Refusal):
            await Fetcher([url], 0.3).fetch(url, url)
        assert time.monotonic() - started < 5
        assert issuer.connected == 1
