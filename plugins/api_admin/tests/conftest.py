"""A front end over an admin that writes down what it was asked, and a whole server."""

from __future__ import annotations

import hashlib
import http.client
import json

import jsonschema_rs
import pytest
from objectio_api_admin.frontend import AdminFactory
from objectio_api_admin.routes import find, openapi_document

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubReport,
    ScrubStatus,
)
from objectio.abc.api import ApiContext
from objectio.abc.cluster import ClusterStatus
from objectio.abc.metrics import NullMetrics
from objectio.abc.quotas import QuotaStatus
from objectio.errors import InvalidRequest, NotFound
from objectio.iam.credentials import root_credential
from objectio.iam.signer import sign_request
from objectio.model.cluster import ClusterMap, Osd, OsdId
from objectio.testing.api import call
from objectio.testing.cluster import LocalServer
from objectio.testing.identities import memory_identities
from objectio.testing.objects import MemoryObjects


class WrittenAdmin:
    """Six disks, of which number 3 is down. `asked` has every call."""

    def __init__(self):
        self.asked = []
        self.fails = None

    def _note(self, *call):
        self.asked.append(call)
        if self.fails is not None:
            raise self.fails

    def _disk(self, osd):
        if osd not in range(6):
            raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd")
        down = osd == 3
        return DiskStatus(
            osd=osd,
            path=f"/srv/{osd}",
            host="h",
            rack="r",
            weight=1.0,
            state="down" if down else "up",
            capacity_bytes=None if down else 1 << 40,
        )

    async def disks(self):
        self._note("disks")
        return [self._disk(osd) for osd in range(6)]

    async def replace(self, osd):
        self._note("replace", osd)
        if self._disk(osd).state == "up":
            raise InvalidRequest(f"OSD {osd} is in service")
        return self._disk(osd)

    async def drain(self, osd):
        self._note("drain", osd)
        return self._disk(osd)

    async def undrain(self, osd):
        self._note("undrain", osd)
        return self._disk(osd)

    async def remove(self, osd):
        self._note("remove", osd)
        return self._disk(osd)

    async def repair(self):
        self._note("repair")
        return RepairStatus(
            active=True,
            waiting={0: 1, 2: 7},
            blocked=0,
            refilling=(3,),
            repaired_shards=5,
            repaired_bytes=500,
            bytes_left=900,
            bytes_per_second=100.0,
            seconds_left=9.0,
        )

    async def scrub(self):
        self._note("scrub")
        last = ScrubReport(begun_ms=1, finished_ms=2, blobs=3, healthy=3)
        return ScrubStatus(running=False, progress=0.0, current=None, last=last, next_ms=9)

    async def start_scrub(self):
        self._note("start_scrub")
        return ScrubStatus(
            running=True, progress=0.5, current=ScrubReport(begun_ms=5), last=None, next_ms=None
        )

    async def rebalance(self):
        self._note("rebalance")
        return RebalanceStatus(
            epoch=3,
            groups=128,
            groups_moving=1,
            groups_waiting=2,
            moved_shards=3,
            moved_bytes=4,
            bytes_left=5,
            bytes_per_second=6.0,
            seconds_left=None,
            degraded_spread=("pool 1",),
        )

    async def journal(self):
        self._note("journal")
        return JournalStatus(
            enabled=True,
            copies_wanted=3,
            osds=(0, 1, 2),
            sequence=9,
            checkpoint_sequence=4,
            waiting=0,
            bytes_since_checkpoint=77,
        )

    async def doctor(self):
        self._note("doctor")
        return [Finding(severity="warning", what="w", meaning="m", action="a")]

    # Who is in the cluster.

    async def status(self):
        self._note("status")
        return ClusterStatus(
            cluster_id="c", epoch=3, state="waiting", reason="for disks", pool="p", nodes=()
        )

    async def cluster_map(self):
        self._note("cluster_map")
        return ClusterMap(epoch=3, osds=(Osd(id=OsdId(0), host="h"),))


FILLED = {
    "{osd}": "3",
    "{name}": "123456789012",
    "{user}": "ann%40home",
    "{group}": "readers",
    "{key}": "AKEY",
    "{policy}": "readonly",
    "{role}": "worker",
    "{inline}": "own",
    "{node}": "n1",
}


@pytest.fixture
def fill():
    """`fill(text)`: a path, or the resource of a route, with something for each of its names."""

    def fill_(text, escaped=True):
        for word, name in FILLED.items():
            text = text.replace(word, name if escaped else name.replace("%40", "@"))
        return text

    return fill_


@pytest.fixture
def path_of(fill):
    return lambda route: f"/_admin{fill(route.path)}"


@pytest.fixture
def admin():
    return WrittenAdmin()


class WrittenQuotas:
    """Of one bucket, "123456789012", and of any account."""

    def __init__(self):
        self._bounds = {}

    async def bucket_quota(self, bucket):
        if bucket != "123456789012":
            raise NotFound(f"there is no bucket {bucket}", kind="bucket")
        return await self.account_quota(bucket)

    async def set_bucket_quota(self, bucket, bytes_max, objects_max):
        await self.bucket_quota(bucket)
        self._bounds[bucket] = bytes_max, objects_max

    async def account_quota(self, owner):
        bytes_max, objects_max = self._bounds.get(owner, (0, 0))
        return QuotaStatus(bytes_max=bytes_max, objects_max=objects_max)

    async def set_account_quota(self, owner, bytes_max, objects_max):
        self._bounds[owner] = bytes_max, objects_max


@pytest.fixture
def identities():
    return memory_identities()


@pytest.fixture
def objects():
    return MemoryObjects()


@pytest.fixture
def front_end(admin, identities, objects):
    return AdminFactory().build(
        ApiContext(
            objects=objects,
            metrics=NullMetrics(),
            admin=admin,
            cluster=admin,
            identities=identities.identities,
            directory=identities.directory,
            quotas=WrittenQuotas(),
            configuration={"node": "n1", "source": None, "config": {"gateway": {"auth": True}}},
        )
    )


def check_answer(method, path, status, said):
    """That it is of the schema that the OpenAPI document has for it."""
    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
    if status == 200:
        route = find(method, f"/_admin{path}".encode(), b"").route
        operation = find_operation(route.action)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    components = openapi_document()["components"]
    jsonschema_rs.validator_for({"components": components, **schema}).validate(said)


def find_operation(action):
    for methods in openapi_document()["paths"].values():
        for operation in methods.values():
            if isinstance(operation, dict) and operation["operationId"] == action:
                return operation
    raise KeyError(action)


@pytest.fixture
def ask(front_end):
    """`await ask("GET", "/v1/disks")` → (status, what the JSON says), which is as documented."""

    async def ask_(method, path, **more):
        answer = await call(front_end, method, f"/_admin{path}", **more)
        assert answer.headers["content-type"] == "application/json"
        said = json.loads(answer.body)
        check_answer(method, path, answer.status, said)
        return answer.status, said

    return ask_


class Server(LocalServer):
    def ask(self, method, path, keys=None, sent=b"", session_token=""):
        """(status, body) of a request; `keys` sign it."""
        host, port = self.address
        headers = [(b"host", f"{host}:{port}".encode())]
        if method == "POST":
            headers.append((b"content-length", b"%d" % len(sent)))
        if session_token:
            headers.append((b"x-amz-security-token", session_token.encode()))
        if keys is not None:
            digest = hashlib.sha256(sent).hexdigest().encode()
            headers = sign_request(
                root_credential(*keys), method, path.encode(), b"", headers, content_sha256=digest
            )
        connection = http.client.HTTPConnection(host, port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(sent or None)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def server_class():
    return Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server") / "data") as started:
        yield started
