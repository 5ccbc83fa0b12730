"""Where a request comes from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from objectio.gateway.caller import Peer, find_peer

PROXIES = [ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32")]


def peer(client, scheme="http", proxies=PROXIES, **headers):
    scope = {"client": client and (client, 1), "scheme": scheme}
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return find_peer(scope, named, proxies)


@pytest.mark.parametrize(
    ("client", "said", "found"),
    [
        ("203.0.113.5", "192.0.2.7", "203.0.113.5"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "192.0.2.7:5555", "192.0.2.7"),
        ("10.0.0.1", '"[2001:db9::7]:5555"', "2001:db9::7"),
        ("10.0.0.1", "2001:db9::7", "2001:db9::7"),
        ("10.0.0.1", "1.1.1.1, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "192.0.2.7, 10.9.9.9,10.8.8.8", "192.0.2.7"),
        ("10.0.0.1", "10.7.7.7, 10.8.8.8", "10.7.7.7"),
        ("10.0.0.1", "192.0.2.7, garbage", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7, garbage, 10.3.3.3", "10.3.3.3"),
        ("10.0.0.1", ",,", "10.0.0.1"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::9", "192.0.2.7", "192.0.2.7"),
        ("unknown", "192.0.2.7", "unknown"),
    ],
)
def test_source_ip(client, said, found):
    assert peer(client, x_forwarded_for=said).source_ip == found


def test_a_unix_socket_has_no_address():
    assert peer(None, x_forwarded_for="192.0.2.7") == Peer("", False)


@pytest.mark.parametrize(
    ("client", "scheme", "said", "secure"),
    [
        ("10.0.0.1", "http", None, False),
        ("10.0.0.1", "https", None, True),
        ("10.0.0.1", "http", "https", True),
        ("10.0.0.1", "http", "HTTPS", True),
        ("10.0.0.1", "https", "http", False),
        ("10.0.0.1", "http", "https, http", False),
        ("203.0.113.5", "http", "https", False),
        ("203.0.113.5", "https", "http", True),
    ],
)
def test_secure(client, scheme, said, secure):
    headers = {} if said is None else {"x_forwarded_proto": said}
    assert peer(client, scheme, **headers).secure is secure
