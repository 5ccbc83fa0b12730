"""Who may call what: without a proof nobody, and with one what the table says."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.const import Status

from objectio.errors import AccessDenied, OperationNotImplemented, Unauthenticated
from objectio.rpc.auth import Identity
from objectio.rpc.control import gate as gate_module
from objectio.rpc.control.client import AccessKey
from objectio.rpc.control.descriptors import methods
from objectio.rpc.control.pb import messages as pb
from objectio.rpc.control.proof import HEADER, Proof
from objectio.rpc.control.roles import ADMIN, ANYBODY, MAY_CALL, PROCESSES

STATUS = "/objectio.v1.Cluster/Status"
MAP = "/objectio.v1.Cluster/Map"
OTHER_SECRET = bytes(32)
SECRET = bytes(range(100, 132))
PROVED = sorted(path for path, roles in MAY_CALL.items() if roles is not ANYBODY)


def header(proof):
    return {HEADER: str(proof)}


async def refused(call, reason, harness, kind=Unauthenticated):
    before = harness.refused.get(reason, 0)
    with pytest.raises(kind) as caught:
        await call
    assert caught.value.fields["reason"] == reason
    assert harness.refused[reason] == before + 1


def test_the_table_is_of_every_method_and_no_other():
    older = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert set(methods()) | {older} == set(MAY_CALL)
    strangers = {path for path, roles in MAY_CALL.items() if roles is ANYBODY}
    assert strangers == {
        "/objectio.v1.Access/Challenge",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        older,
    }
    for path, roles in MAY_CALL.items():
        assert roles is ANYBODY or roles <= PROCESSES | {ADMIN}, path
        if path.startswith("/objectio.v1.Admin/"):
            assert roles == {ADMIN}


@pytest.mark.parametrize("path", PROVED)
async def test_without_a_proof_nothing_can_be_called(harness, raw, path):
    connection = raw()
    await refused(connection.call(path), "missing", harness)
    assert await connection.status_of(path) is Status.UNAUTHENTICATED
    await connection.challenge()  # which is no proof yet
    await refused(connection.call(path), "missing", harness)
    assert harness.plane.offers == harness.plane.reports == harness.admin.orders == []


@pytest.mark.parametrize("path", PROVED)
async def test_each_role_may_call_what_the_table_says(harness, raw, path):
    harness.admin.go_on.set()
    for role in sorted(PROCESSES | {ADMIN}):
        connection = raw()
        key = harness.root.secret_key.encode() if role == ADMIN else SECRET
        prover = await connection.challenge(role, harness.root.access_key, key)
        call = connection.call(path, **header(prover.prove(path, b"")))
        if role in MAY_CALL[path]:
            error = (await asyncio.gather(call, return_exceptions=True))[0]
            assert not isinstance(error, Unauthenticated)
            if isinstance(error, AccessDenied):  # it is of a node that is not the caller
                assert error.fields["reason"] == "name"
        else:
            await refused(call, "role", harness, AccessDenied)


async def test_methods_that_do_not_exist(harness, raw):
    connection = raw()
    with pytest.raises(OperationNotImplemented):
        await connection.call("/objectio.v1.Cluster/Destroy")


async def test_a_wrong_secret_is_refused(harness, raw):
    connection = raw()
    prover = await connection.challenge(key=OTHER_SECRET)
    await refused(connection.call(STATUS, **header(prover.prove(STATUS, b""))), "proof", harness)
    who = Identity(secret=OTHER_SECRET, role="osd", node="n1")
    with pytest.raises(Unauthenticated):
        await harness.client(who).status()


async def test_wrong_unknown_and_revoked_access_keys_look_alike(harness):
    wrong = AccessKey(access_key=harness.root.access_key, secret_key="another secret")
    unknown = AccessKey(access_key="AKNOBODY", secret_key=harness.root.secret_key)
    nothing = AccessKey(access_key="AKNOBODY", secret_key="-")
    told = set()
    for who in (wrong, unknown, nothing):
        with pytest.raises(Unauthenticated) as caught:
            await harness.client(who).status()
        told.add((str(caught.value), caught.value.fields["reason"]))
    assert len(told) == 1
    client = harness.client(harness.root)
    await client.disks()
    del harness.keys[harness.root.access_key]
    with pytest.raises(Unauthenticated):
        await client.disks()


async def test_a_person_is_no_process_and_a_process_no_person(harness, raw):
    """The secret of the cluster proves no administrator, an access key no process."""
    connection = raw()
    prover = await connection.challenge(ADMIN, harness.root.access_key, SECRET)
    await refused(connection.call(STATUS, **header(prover.prove(STATUS, b""))), "proof", harness)
    prover = await connection.challenge(
        "osd", harness.root.access_key, harness.root.secret_key.encode()
    )
    await refused(connection.call(STATUS, **header(prover.prove(STATUS, b""))), "proof", harness)


async def test_a_call_that_was_heard_cannot_be_made_again(harness, raw):
    connection, other = raw(), raw()
    prover = await connection.challenge()
    heard = header(prover.prove(STATUS, b""))
    await connection.call(STATUS, **heard)
    await refused(connection.call(STATUS, **heard), "replay", harness)
    await refused(other.call(STATUS, **heard), "challenge", harness)
    await other.challenge()
    await refused(other.call(STATUS, **heard), "challenge", harness)
    await connection.call(STATUS, **header(prover.prove(STATUS, b"")))


async def test_a_proof_that_was_never_used_is_of_no_use_on_another_connection(harness, raw):
    prover = await raw().challenge()
    await refused(raw().call(STATUS, **header(prover.prove(STATUS, b""))), "challenge", harness)


async def test_a_proof_is_of_one_method(harness, raw):
    connection = raw()
    prover = await connection.challenge()
    await refused(connection.call(MAP, **header(prover.prove(STATUS, b""))), "proof", harness)


@pytest.mark.parametrize("caller", [("gateway", "n1"), ("osd", "n2"), ("meta", "n1")])
async def test_a_proof_is_of_one_role_and_one_name(harness, raw, caller):
    connection = raw()
    prover = await connection.challenge("osd", "n1")
    prover.caller = type(prover.caller)(*caller)
    await refused(connection.call(STATUS, **header(prover.prove(STATUS, b""))), "proof", harness)


async def test_a_proof_is_of_the_bytes_of_the_request(harness, raw):
    connection = raw()
    prover = await connection.challenge()
    path = "/objectio.v1.Cluster/Register"
    offer = bytes(pb.NodeOffer("n1", "a:1", "h", "r", [pb.DiskOffer("/a")]))
    evil = bytes(pb.NodeOffer("n1", "a:2", "h", "r", [pb.DiskOffer("/a")]))
    await refused(
        connection.call(path, evil, **header(prover.prove(path, offer))), "proof", harness
    )
    assert harness.plane.offers == []
    await connection.call(path, offer, **header(prover.prove(path, offer)))
    assert [each.address for each in harness.plane.offers] == ["a:1"]


@pytest.mark.parametrize("part", ["nonce", "counter", "binding", "mac"])
async def test_a_proof_is_whole(harness, raw, part):
    connection = raw()
    prover = await connection.challenge()
    proof = prover.prove(STATUS, b"")
    changed = {
        "nonce": (bytes(32), "challenge"),
        "counter": (proof.counter + 1, "proof"),
        "binding": ("tls-unique", "binding"),
        "mac": (bytes(32), "proof"),
    }
    value, reason = changed[part]
    await refused(
        connection.call(STATUS, **header(proof._replace(**{part: value}))), reason, harness
    )
    await connection.call(STATUS, **header(proof))


async def test_what_is_no_proof_is_refused(harness, raw):
    connection = raw()
    await refused(connection.call(STATUS, authorization="Basic eDp5"), "malformed", harness)
    await refused(connection.call(STATUS, **{"authorization-bin": b"x"}), "missing", harness)
    await refused(
        connection.call(STATUS, **header(Proof(bytes(32), 0, "none", bytes(32)))),
        "challenge",
        harness,
    )


async def test_challenges_are_for_roles_that_exist_and_names(harness, raw):
    connection = raw()
    for role, name, reason in (
        ("root", "n1", "role"),
        ("", "n1", "role"),
        ("osd", "", "malformed"),
        ("osd", "a\nb", "malformed"),
        ("osd", "x" * 129, "malformed"),
    ):
        await refused(connection.challenge(role, name), reason, harness)


async def test_a_connection_keeps_so_many_challenges_and_not_for_ever(harness, raw, monkeypatch):
    connection = raw()
    first = await connection.challenge()
    for _ in range(gate_module.CHALLENGES_MAX):
        last = await connection.challenge()
    await refused(connection.call(STATUS, **header(first.prove(STATUS, b""))), "challenge", harness)
    await connection.call(STATUS, **header(last.prove(STATUS, b"")))
    monkeypatch.setattr(gate_module, "CHALLENGE_SECONDS", -1.0)
    old = await connection.challenge()
    await refused(connection.call(STATUS, **header(old.prove(STATUS, b""))), "challenge", harness)


async def test_nobody_speaks_for_another_node(harness):
    client = harness.client(Identity(secret=SECRET, role="osd", node="n1"))
    with pytest.raises(AccessDenied):
        await client.heartbeat("n2", [])
    assert harness.plane.reports == []


async def test_refusals_are_shown_to_operators(harness, raw):
    await raw().status_of(STATUS)
    await raw().status_of(STATUS)
    assert harness.refused == {"missing": 2}


async def test_whoever_answers_must_know_the_secret_too(harness):
    """Somebody in between who answers in place of the server."""
    client = harness.client(Identity(secret=SECRET, role="osd", node="n1"))
    await client.status()
    harness.server._gate.key_of = lambda caller: SECRET
    admit = gate_module.Visitor.admit

    def admit_anything(self, method, metadata, request):
        return admit(self, method, metadata, request)._replace(key=OTHER_SECRET)

    gate_module.Visitor.admit = admit_anything
    try:
        with pytest.raises(Unauthenticated) as caught:
            await client.status()
    finally:
        gate_module.Visitor.admit = admit
    assert caught.value.fields["reason"] == "answer"


async def test_calls_at_once_are_all_taken(harness):
    client = harness.client(Identity(secret=SECRET, role="osd", node="n1"))
    answers = await asyncio.gather(*(client.cluster_map() for _ in range(50)))
    assert {answer.epoch for answer in answers} == {4}
    assert harness.refused == {}
