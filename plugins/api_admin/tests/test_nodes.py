"""Nodes and the topology: what is shown, and that a node is drained as one."""

from __future__ import annotations

import msgspec
import pytest
from objectio_api_admin.frontend import AdminFactory

from objectio.abc.api import ApiContext
from objectio.abc.cluster import ClusterStatus, NodeStatus, OsdReport
from objectio.abc.metrics import NullMetrics
from objectio.errors import InvalidRequest
from objectio.testing.api import NOBODY, call
from objectio.testing.objects import MemoryObjects


def node(name, role, osds=(), alive=True):
    reports = tuple(OsdReport(osd=osd, state="up") for osd in osds)
    return NodeStatus(
        node=name, role=role, address=f"{name}:1", alive=alive, seen_ms=5, osds=reports
    )


class TwoNodes:
    """Osds 0 to 3 at n1, on two hosts of two racks; 4 and 5 at n2, of which 5 is down. `refuses` are
    OSDs that may not be drained."""

    def __init__(self, written):
        self._written = written
        self.refuses = set()
        self.orders = []
        self.memberships = {}

    def __getattr__(self, name):
        return getattr(self._written, name)

    async def disks(self):
        return [
            msgspec.structs.replace(
                disk,
                host=f"h{disk.osd // 2}",
                rack="west" if disk.osd < 2 else "east",
                state="down" if disk.osd == 5 else "up",
                capacity_bytes=None if disk.osd == 5 else 1000,
                used_bytes=None if disk.osd == 5 else disk.osd,
                membership=self.memberships.get(disk.osd, "in"),
            )
            for disk in await self._written.disks()
        ]

    async def status(self):
        nodes = (
            node("n1", "osd", (0, 1, 2, 3)),
            node("n2", "osd", (4, 5)),
            node("n3", "gateway", alive=False),
            node("n1", "gateway"),
        )
        return ClusterStatus(
            cluster_id="c", epoch=7, state="serving", reason="", pool="p", nodes=nodes
        )

    async def drain(self, osd):
        self.orders.append(("drain", osd))
        if osd in self.refuses:
            raise InvalidRequest(f"OSD {osd} cannot be drained: too few would be left")
        self.memberships[osd] = "draining"

    async def undrain(self, osd):
        self.orders.append(("undrain", osd))
        self.memberships[osd] = "in"


@pytest.fixture
def two(admin):
    return TwoNodes(admin)


@pytest.fixture
def front_end(two):
    context = ApiContext(objects=MemoryObjects(), metrics=NullMetrics(), admin=two, cluster=two)
    return AdminFactory().build(context)


async def test_nodes_are_shown_with_their_disks(ask):
    status, said = await ask("GET", "/v1/nodes")
    assert status == 200
    assert [(each["node"], each["roles"], each["osds"]) for each in said["nodes"]] == [
        ("n1", "osd", [0, 1, 2, 3]),
        ("n2", "osd", [4, 5]),
        ("n3", "gateway", []),
        ("n1", "gateway", []),
    ]
    first, second, third, _ = said["nodes"]
    assert first["hosts"] == ["h0", "h1"]
    assert (first["disks_up"], first["capacity_bytes"], first["used_bytes"]) == (4, 4000, 6)
    assert (second["disks_up"], second["capacity_bytes"], second["membership"]) == (1, 1000, "in")
    assert (third["alive"], third["membership"], third["hosts"]) == (False, "", [])
    status, said = await ask("GET", "/v1/nodes/n2")
    assert status == 200
    assert [(disk["osd"], disk["state"]) for disk in said["disks"]] == [(4, "up"), (5, "down")]
    assert (said["address"], said["seen_ms"]) == ("n2:1", 5)


async def test_of_two_processes_of_a_name_the_one_with_disks_shows(ask):
    _, said = await ask("GET", "/v1/nodes/n1")
    assert (said["roles"], len(said["disks"])) == ("osd", 4)


async def test_a_node_that_is_not_there(ask, two):
    for method, path in (("GET", "n9"), ("POST", "n9/drain"), ("POST", "n9/undrain")):
        status, said = await ask(method, f"/v1/nodes/{path}")
        assert (status, said["error"]["message"]) == (404, "there is no node n9")
    assert two.orders == []


async def test_a_node_is_drained_and_taken_back(ask, two):
    two.memberships[1] = "draining"
    status, said = await ask("POST", "/v1/nodes/n1/drain")
    assert (status, said["membership"]) == (200, "draining")
    assert two.orders == [("drain", 0), ("drain", 2), ("drain", 3)], "1 is drained already"
    assert [disk["membership"] for disk in said["disks"]] == ["draining"] * 4
    assert (await ask("GET", "/v1/nodes/n2"))[1]["membership"] == "in"
    two.memberships[0] = "out"
    assert (await ask("GET", "/v1/nodes/n1"))[1]["membership"] == "mixed"
    two.orders.clear()
    status, said = await ask("POST", "/v1/nodes/n1/undrain")
    assert (status, said["membership"]) == (200, "in")
    assert two.orders == [("undrain", osd) for osd in range(4)]
    two.orders.clear()
    assert (await ask("POST", "/v1/nodes/n1/undrain"))[0] == 200
    assert two.orders == [], "again changes nothing"


async def test_all_or_none_of_a_node_is_drained(ask, two):
    two.refuses = {2}
    two.memberships[0] = "draining"
    status, said = await ask("POST", "/v1/nodes/n1/drain")
    assert (status, said["error"]["code"]) == (409, "InvalidRequest")
    assert "node n1 is not drained" in said["error"]["message"]
    assert "OSD 2 cannot be drained" in said["error"]["message"]
    assert two.orders == [("drain", 1), ("drain", 2), ("undrain", 1)]
    assert two.memberships == {0: "draining", 1: "in"}, "as it was before"


async def test_a_node_without_disks_cannot_be_drained(ask, two):
    for order in ("drain", "undrain"):
        status, said = await ask("POST", f"/v1/nodes/n3/{order}")
        assert status == 409
        assert "n3 has no disks" in said["error"]["message"]
    assert two.orders == []


async def test_the_topology(ask):
    status, said = await ask("GET", "/v1/cluster/topology")
    assert status == 200
    assert (said["cluster_id"], said["epoch"]) == ("c", 7)
    assert (said["disks_up"], said["capacity_bytes"], said["used_bytes"]) == (5, 5000, 10)
    east, west = said["racks"]
    assert (east["rack"], west["rack"]) == ("east", "west")
    assert [host["host"] for host in east["hosts"]] == ["h1", "h2"]
    assert (east["disks_up"], east["capacity_bytes"]) == (3, 3000)
    (host,) = west["hosts"]
    assert [(disk["osd"], disk["node"]) for disk in host["disks"]] == [(0, "n1"), (1, "n1")]
    lost = east["hosts"][1]["disks"][1]
    assert (lost["osd"], lost["state"], lost["capacity_bytes"]) == (5, "down", None)


@pytest.mark.parametrize("missing", ["admin", "cluster"])
async def test_a_process_that_knows_one_half_says_so(two, missing):
    parts = {"admin": two, "cluster": two} | {missing: None}
    context = ApiContext(objects=MemoryObjects(), metrics=NullMetrics(), **parts)
    front_end = AdminFactory().build(context)
    for path in ("nodes", "nodes/n1", "cluster/topology"):
        assert (await call(front_end, "GET", f"/_admin/v1/{path}")).status == 501


async def test_who_may_drain_a_disk_may_not_drain_a_node(ask, two):
    status, _ = await ask(
        "POST",
        "/v1/nodes/n1/drain",
        identity=NOBODY,
        allows=lambda action, resource: action == "admin:DrainDisk",
    )
    assert status == 403
    status, _ = await ask(
        "POST",
        "/v1/nodes/n1/drain",
        identity=NOBODY,
        allows=lambda action, resource: resource.endswith(":node/n2"),
    )
    assert status == 403
    assert two.orders == []
