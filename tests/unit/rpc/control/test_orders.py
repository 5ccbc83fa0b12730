"""The audit log of the control plane: no order without its lines, and who was refused."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from objectio.errors import InvalidRequest, ObjectIOError, Unavailable
from objectio.gateway.audit import Audit
from objectio.rpc.control.roles import ADMIN, MAY_CALL, ORDERS


@pytest.fixture
async def audit(harness, tmp_path):
    made = Audit(tmp_path, "n1", file_bytes_max=1 << 20, files_max=2, denied_per_second_max=100.0)
    await made.start()
    harness.orders = lambda: made
    made.lines = lambda kind="admin": [
        json.loads(line) for line in (tmp_path / f"n1.{kind}.jsonl").read_bytes().splitlines()
    ]
    yield made
    await made.stop()


@pytest.fixture
def person(harness):
    return harness.client(harness.root)


def test_each_is_an_order_or_a_question():
    """Whatever is added for operators is in the log, until it says that it changes nothing."""
    asks = ("Disks", "Repair", "Scrub", "Rebalance", "Journal", "Doctor")
    only = {path for path, roles in MAY_CALL.items() if roles == {ADMIN}}
    assert only - ORDERS.keys() == {f"/objectio.v1.Admin/{name}" for name in asks}
    assert only >= ORDERS.keys()


def test_they_are_known_by_the_same_names_everywhere():
    routes = pytest.importorskip("objectio_api_admin.routes", reason="api_admin is not installed")
    assert {action.removeprefix("admin:") for action in ORDERS.values()} <= {
        route.action for route in routes.ROUTES
    }


async def test_an_order_is_written_down_before_it_is_carried_out(harness, person, audit):
    order = asyncio.create_task(person.replace(3))
    await harness.admin.going_on.wait()
    (begun,) = audit.lines()
    assert (begun["event"], begun["action"]) == ("begun", "admin:ReplaceDisk")
    assert begun["resource"] == "arn:objectio:admin:::disk/3"
    assert begun["identity"] == "arn:aws:iam::000000000000:root"
    assert begun["access_key"] == harness.root.access_key
    assert begun["source_ip"].startswith("127.0.0.1")
    harness.admin.go_on.set()
    await order
    (_, done) = audit.lines()
    assert done == begun | {"event": "done", "status": "OK", "code": "", "time": done["time"]}
    with pytest.raises(InvalidRequest):
        await person.remove(3)
    last = audit.lines()[-1]
    assert (last["action"], last["status"], last["code"]) == (
        *("admin:RemoveDisk", "FAILED_PRECONDITION", "up"),
    )
    await person.start_scrub()
    assert audit.lines()[-1]["resource"] == "arn:objectio:admin:::scrub"
    before = len(audit.lines())
    for ask in (person.disks, person.repair, person.doctor, person.status):
        await ask()
    assert len(audit.lines()) == before


async def test_who_goes_away_leaves_both_lines(harness, person, audit, until):
    order = asyncio.create_task(person.replace(3))
    await harness.admin.going_on.wait()
    order.cancel()
    await asyncio.gather(order, return_exceptions=True)
    harness.admin.go_on.set()
    await until(lambda: [each["event"] for each in audit.lines()] == ["begun", "done"])


async def test_what_cannot_be_written_down_is_not_carried_out(harness, person, audit, tmp_path):
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    tmp_path.touch()
    with pytest.raises(Unavailable, match="audit log"):
        await person.drain(3)
    assert harness.admin.orders == []
    assert await person.disks()
    tmp_path.unlink()
    tmp_path.mkdir()

    def starting():
        raise Unavailable("not yet", reason="starting")

    harness.orders = starting
    with pytest.raises(Unavailable, match="not yet"):
        await person.drain(3)
    assert harness.admin.orders == []


async def test_who_is_refused(harness, person, audit):
    harness.keys.clear()
    with pytest.raises(ObjectIOError):
        await person.drain(3)
    deadline = time.monotonic() + 10
    while not (found := audit.lines("denied")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (found[0]["event"], found[0]["action"]) == ("denied", "admin:DrainDisk")
    assert (found[0]["code"], found[0]["identity"]) == ("proof", "*")
    assert audit.lines() == []
