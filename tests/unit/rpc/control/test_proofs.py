"""What is computed from what; and numbers that are taken once."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest

from objectio.errors import Unauthenticated
from objectio.rpc.auth import Binding
from objectio.rpc.control.proof import (
    COUNTER_MAX,
    WINDOW,
    Caller,
    Counters,
    Proof,
    Prover,
    answer_mac,
    call_mac,
    parse_proof,
)

KEY = bytes(range(32))
NONCE = bytes(range(32, 64))
CALL = {
    "key": KEY,
    "method": "/objectio.v1.Cluster/Status",
    "caller": Caller("osd", "n1"),
    "nonce": NONCE,
    "counter": 7,
    "request": b"request",
    "binding": Binding("tls-unique", b"binding"),
}


def test_a_proof_is_what_the_page_says():
    """Written out once more, as docs/howto/control-plane.md tells other languages."""

    def joined(*parts):
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)

    said = b"objectio control v1 call\0" + joined(
        b"/objectio.v1.Cluster/Status",
        b"osd",
        b"n1",
        NONCE,
        (7).to_bytes(8, "little"),
        b"tls-unique",
        b"binding",
        b"request",
    )
    mac = call_mac(**CALL)
    assert mac == hmac.new(KEY, said, hashlib.sha256).digest()
    answered = b"objectio control v1 answer\0" + joined(mac, b"answer")
    assert answer_mac(KEY, mac, b"answer") == hmac.new(KEY, answered, hashlib.sha256).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"key": bytes(32)},
        {"method": "/objectio.v1.Cluster/Map"},
        {"caller": Caller("gateway", "n1")},
        {"caller": Caller("osd", "n2")},
        {"caller": Caller("osdn", "1")},
        {"nonce": bytes(32)},
        {"counter": 8},
        {"request": b"requesu"},
        {"binding": Binding("tls-unique", b"bindinh")},
        {"binding": Binding()},
    ],
)
def test_a_proof_is_of_everything(change):
    assert call_mac(**(CALL | change)) != call_mac(**CALL)


def test_a_proof_travels_as_text():
    proof = Proof(NONCE, 12, "none", bytes(32))
    assert parse_proof(str(proof)) == proof
    assert KEY.hex() not in str(proof)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer x",
        "ObjectIO-HMAC-SHA256-V1",
        str(Proof(NONCE, COUNTER_MAX + 1, "none", bytes(32))),
        str(Proof(NONCE[:-1], 1, "none", bytes(32))),
        str(Proof(NONCE, 1, "none", bytes(31))),
        str(Proof(NONCE, 1, "no ne", bytes(32))),
        str(Proof(NONCE, 1, "none", bytes(32))) + "\n",
        str(Proof(NONCE, 1, "none", bytes(32))).replace("counter=1", "counter=01"),
        str(Proof(NONCE, 1, "none", bytes(32))).replace("counter=1", "counter=-1"),
    ],
)
def test_what_is_no_proof_is_refused(text):
    with pytest.raises(Unauthenticated):
        parse_proof(text)


def test_each_number_is_taken_once_however_calls_overtake_each_other():
    numbers = list(range(5 * WINDOW))
    random.Random(1).shuffle(numbers)
    counters, taken, highest = Counters(), set(), -1
    for number in numbers * 2:
        expected = number not in taken and number > highest - WINDOW
        assert counters.take(number) == expected
        if expected:
            taken.add(number)
            highest = max(highest, number)
    assert counters.taken < 1 << WINDOW


def test_numbers_far_ahead_and_far_behind():
    counters = Counters()
    assert counters.take(0)
    assert counters.take(COUNTER_MAX)
    assert not counters.take(0)
    assert not counters.take(COUNTER_MAX - WINDOW)
    assert counters.take(COUNTER_MAX - WINDOW + 1)
    assert not counters.take(COUNTER_MAX - WINDOW + 1)


def test_a_prover_shows_no_key():
    prover = Prover(b"a very secret key", Caller("admin", "AK"), NONCE, 0.0)
    assert "secret" not in repr(prover)
    first, second = prover.prove("/m", b""), prover.prove("/m", b"")
    assert first.counter != second.counter
    assert first.mac != second.mac
    good = answer_mac(prover.key, first.mac, b"yes").hex()
    prover.check_answer(first, good, b"yes")
    for text, answer in ((good, b"no"), (None, b"yes"), ("", b"yes"), ("é", b"yes")):
        with pytest.raises(Unauthenticated):
            prover.check_answer(first, text, answer)
    with pytest.raises(Unauthenticated):
        prover.check_answer(second, good, b"yes")
