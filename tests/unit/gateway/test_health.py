"""What is said to who asks whether it works."""

from __future__ import annotations

import json

import pytest

from objectio.gateway.health import PATHS, Health
from objectio.store.reach import Reach


class Reaches:
    def __init__(self, **said):
        self.reach = Reach(True, 6, 6, 8, 0, 0)._replace(**said)

    def now(self):
        return self.reach


async def ask(health, path):
    answer = await health.answer(path, alone=False)
    assert dict(answer.headers)[b"cache-control"] == b"no-store"
    return answer.status, json.loads(answer.body)


async def test_alive_is_who_answers_and_ready_who_can_serve():
    report = {"ok": False, "waiting": "/secret/path", "roles": {}}
    health = Health(lambda: report, Reaches())
    assert await ask(health, b"/health/live") == (200, {"status": "ok"})
    for path in PATHS - {b"/health/live"}:
        status, said = await ask(health, path)
        assert (status, said["status"]) == (503, "unavailable")
        assert "secret" not in str(said)
    report["ok"] = True
    for path in PATHS:
        assert (await ask(health, path))[0] == 200


async def test_the_cluster_in_numbers():
    said = {"osds": 6, "osds_up": 5, "groups": 8, "groups_unreadable": 0, "groups_unwritable": 0}
    assert await ask(Health(None, Reaches(osds_up=5)), b"/health/cluster") == (
        200,
        {"status": "ok", **said},
    )


@pytest.mark.parametrize(
    "wrong", [{"groups_unreadable": 1}, {"groups_unwritable": 1}, {"serving": False}], ids=str
)
async def test_the_cluster_is_whole_or_it_is_not(wrong):
    assert (await ask(Health(None, Reaches(**wrong)), b"/health/cluster"))[0] == 503


async def test_who_knows_no_osds_is_not_to_be_asked():
    assert await ask(Health(), b"/health/cluster") == (404, {"status": "unknown"})
