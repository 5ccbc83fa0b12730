"""What operators are told as it happens, and of nodes, in every shape that a store runs in."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import time

import pytest

from objectio.iam.credentials import root_credential
from objectio.iam.signer import sign_request
from objectio.testing.shapes import SHAPES_SLOW, make_server

for needed in ("objectio_api_admin", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

SECONDS_MAX = 40.0
SETTINGS = {"osd.check_seconds": "0.2", "cluster.lease_seconds": "2"}


class Api:
    """The operators' API at an endpoint, as the root."""

    def __init__(self, endpoint, keys):
        self._host, _, port = endpoint.partition("://")[2].rpartition(":")
        self._port = int(port)
        self._keys = keys

    def send(self, method, path, body=b""):
        """An answer that is not read yet; closing it closes the connection."""
        host = f"{self._host}:{self._port}".encode()
        headers = [(b"host", host)]
        if method == "POST":
            headers.append((b"content-length", b"%d" % len(body)))
        if self._keys is not None:
            digest = hashlib.sha256(body).hexdigest().encode()
            headers = sign_request(
                root_credential(*self._keys),
                method,
                f"/_admin/v1{path}".encode(),
                b"",
                headers,
                content_sha256=digest,
            )
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS_MAX)
        connection.putrequest(method, f"/_admin/v1{path}", skip_host=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        answer.connection_kept = connection
        return answer

    def ask(self, method, path, said=None):
        answer = self.send(method, path, b"" if said is None else json.dumps(said).encode())
        found = json.loads(answer.read())
        answer.connection_kept.close()
        return answer.status, found

    @contextlib.contextmanager
    def listen(self):
        answer = self.send("GET", "/events")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        try:
            yield read_events(answer)
        finally:
            answer.connection_kept.close()


def read_events(answer):
    """The data of each event; ends with the response. Even in a silent one there are heartbeats."""
    deadline = time.monotonic() + 2 * SECONDS_MAX
    for line in answer:
        assert time.monotonic() < deadline
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def find(stream, **wanted):
    """The next event that has all of that in it or in its `now`."""
    seen = []
    for event in stream:
        seen.append(event["type"])
        facts = {**(event.get("now") or {}), **event}
        if all(facts.get(name) == value for name, value in wanted.items()):
            return event
    raise AssertionError(f"the stream ended before {wanted}: {seen}")


def wait_until(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module", params=SHAPES_SLOW)
def server(request, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        data_dir = tmp_path_factory.mktemp("server") / "data"
        made = make_server(data_dir, shape=request.param, settings=SETTINGS, disks=12)
        made.shape = request.param
        yield stack.enter_context(made)


@pytest.fixture
def api(server):
    return Api(server.endpoint, server.credentials)


def disk_nodes(api):
    return [each for each in api.ask("GET", "/nodes")[1]["nodes"] if each["osds"]]


def test_a_disk_that_is_replaced_is_told(api, server):
    with api.listen() as stream:
        state = next(stream)
        assert state["type"] == "state"
        assert (state["cluster"]["state"], state["unknown"]) == ("serving", [])
        assert [disk["state"] for disk in state["disks"]] == ["up"] * 12
        former = state["disks"][3]["device_id"]
        shutil.rmtree(server.disk(3))
        event = find(stream, type="disk", osd=3)
        while event["now"]["device_id"] == former or event["now"]["state"] != "up":
            event = find(stream, type="disk", osd=3)
        assert event["changed"]


def test_a_node_is_drained_and_taken_back(api, server):
    nodes = disk_nodes(api)
    assert sum(len(node["osds"]) for node in nodes) == 12
    name = nodes[0]["node"]
    with api.listen() as stream:
        epoch = next(stream)["cluster"]["epoch"]
        status, said = api.ask("POST", f"/nodes/{name}/drain")
        if server.shape == "one":
            assert status == 409
            assert f"node {name} is not drained" in said["error"]["message"]
            assert disk_nodes(api)[0]["membership"] == "in", "those before are taken back"
            return
        assert (status, said["membership"]) == (200, "draining")
        osd = said["osds"][-1]
        assert find(stream, type="map")["epoch"] > epoch
        event = find(stream, type="disk", osd=osd)
        assert event["now"]["membership"] in ("draining", "out")
        status, said = api.ask("POST", f"/nodes/{nodes[1]['node']}/drain")
        assert status == 409, "the other half is all that there is"
        assert {each["membership"] for each in disk_nodes(api) if each["node"] != name} == {"in"}
        status, said = api.ask("POST", f"/nodes/{name}/undrain")
        assert (status, said["membership"]) == (200, "in")
        find(stream, type="disk", osd=osd, membership="in")


def test_the_topology_and_nodes_agree(api, server):
    topology = api.ask("GET", "/cluster/topology")[1]
    disks = [disk for rack in topology["racks"] for host in rack["hosts"] for disk in host["disks"]]
    assert sorted(disk["osd"] for disk in disks) == list(range(12))
    assert topology["capacity_bytes"] == sum(disk["capacity_bytes"] for disk in disks)
    for node in disk_nodes(api):
        assert node["osds"] == [disk["osd"] for disk in disks if disk["node"] == node["node"]]
        assert node["alive"]
        shown = api.ask("GET", f"/nodes/{node['node']}")[1]
        assert [disk["osd"] for disk in shown["disks"]] == node["osds"]
    roles = {
        word for each in api.ask("GET", "/nodes")[1]["nodes"] for word in each["roles"].split(", ")
    }
    assert roles == {"meta", "osd", "gateway"}


def test_the_configuration_is_that_of_the_process(api, server):
    status, said = api.ask("GET", "/config")
    assert status == 200
    assert said["config"]["osd"]["check_seconds"] == 0.2
    assert said["node"] in server.pids() or server.shape == "one"
    for secret in server.credentials:
        assert secret not in json.dumps(said)


def test_nobody_else_is_told(server):
    wrong = server.credentials[0], "x" * 40
    for keys in (None, wrong):
        api = Api(server.endpoint, keys)
        for method, path in (
            ("GET", "/events"),
            ("GET", "/nodes"),
            ("GET", "/cluster/topology"),
            ("GET", "/config"),
            ("POST", "/nodes/n1/drain"),
        ):
            assert api.ask(method, path)[0] == 403


def test_a_store_in_which_nothing_happens_becomes_quiet(api):
    answer = api.send("GET", "/events")
    answer.fp.raw._sock.settimeout(4.0)
    deadline = time.monotonic() + SECONDS_MAX
    with contextlib.suppress(TimeoutError):
        for event in read_events(answer):
            assert time.monotonic() < deadline, event
        raise AssertionError("it ended")
    answer.connection_kept.close()


@pytest.mark.parametrize("shape", SHAPES_SLOW)
def test_a_server_that_stops_does_not_wait_for_who_listens(tmp_path, shape):
    with make_server(tmp_path / "data", shape=shape) as server:
        api = Api(server.endpoint, server.credentials)
        with api.listen() as stream, api.listen() as other:
            for each in (stream, other):
                assert next(each)["type"] == "state"
            started = time.monotonic()
            if shape == "roles":
                os.kill(server.processes["gateway-0"].pid, signal.SIGTERM)
            else:
                server.terminate()
            for each in (stream, other):
                assert "state" not in [event["type"] for event in each], "it ends"
            assert time.monotonic() - started < 5.0
            if shape == "one":
                assert server.wait_stopped() - started < 8.0
            elif shape == "roles":
                wait_until(lambda: not server.processes["gateway-0"].running)
                assert time.monotonic() - started < 8.0


@pytest.mark.slow
def test_processes_that_go_and_come_back(tmp_path):
    with make_server(tmp_path / "data", shape="roles", settings=SETTINGS) as server:
        api = Api(server.endpoints[1], server.credentials)
        beside_meta = Api(server.meta_endpoint, server.credentials)
        with api.listen() as stream, beside_meta.listen() as at_meta:
            assert next(stream)["unknown"] == next(at_meta)["unknown"] == []
            server.processes["osd-1"].kill()
            for each in (stream, at_meta):
                assert find(each, type="node", node="osd-1", alive=False)["before"]["alive"]
            server.processes["osd-1"].start()
            for each in (stream, at_meta):
                find(each, type="node", node="osd-1", alive=True)
            os.kill(server.processes["gateway-0"].pid, signal.SIGKILL)
            find(at_meta, type="node", node="gateway-0")
            server.processes["meta"].kill()
            lost = find(stream, type="unknown")
            while set(lost["unknown"]) < {"cluster", "disks", "repair", "scrub", "findings"}:
                lost = find(stream, type="unknown")
            with api.listen() as late:
                state = next(late)
                assert (state["cluster"], state["disks"]) == (None, None)
            server.processes["meta"].start()
            find(stream, type="unknown", unknown=[])
            assert api.ask("GET", "/nodes")[0] == 200
