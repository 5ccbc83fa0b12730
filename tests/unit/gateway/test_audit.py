"""Who changed what, and who was denied what: what is on the disk, and when."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from objectio.abc.api import Access, Wanted
from objectio.abc.metrics import NullMetrics
from objectio.errors import AccessDenied, NotFound
from objectio.gateway.app import GatewayApp
from objectio.gateway.audit import Audit, kind_of
from objectio.gateway.gate import Gate
from objectio.iam.credentials import Credential


class AdminFrontEnd:
    """The action is the path; one that is below /public stands in the body, in effect: the handler
    says what it is."""

    def make(self, world):
        front_end = world.EchoFrontEnd()
        classify, front_end.also = front_end.classify, ()

        def classify_action(scope):
            access = classify(scope)
            path = scope["raw_path"].decode()
            if ":" not in path:
                return access
            action = path.rpartition("/")[2]
            public = path.startswith("/public")
            also = front_end.also
            return Access(action, f"arn:{path}", also=also, public=public, service="iam")

        front_end.classify = classify_action
        return front_end


class Counted(NullMetrics):
    def __init__(self):
        self.counts, self.gauges = {}, {}

    def counter(self, name, help, **labels):
        kit = self

        class Counter:
            def inc(self, amount=1):
                key = (name, *labels.values())
                kit.counts[key] = kit.counts.get(key, 0) + amount

        return Counter()

    def gauge_function(self, name, help, read, **labels):
        self.gauges[name] = read


class Kit:
    """`client.call("PUT", b"/iam:CreateUser")` is an administrative action."""

    def __init__(self, world, directory, **settings):
        self.world = world
        self.directory = directory / "audit"
        self.metrics = Counted()
        self.front_end = AdminFrontEnd().make(world)
        self.settings = {
            "file_bytes_max": 1 << 20,
            "files_max": 2,
            "denied_per_second_max": 1000.0,
            **settings,
        }

    async def start(self):
        self.audit = Audit(self.directory, "n1", metrics=self.metrics, **self.settings)
        await self.audit.start()
        gate = Gate(self.world.store)
        app = GatewayApp({"s3": self.front_end}, gate, audit=self.audit)
        self.client = self.world.Client(app)

    async def act(self, path, by="root", method="DELETE", **more):
        by = None if by is None else getattr(self.world, by)
        return await self.client.call(method, path, by=by, service="iam", **more)

    def lines(self, kind="admin"):
        return [
            json.loads(line)
            for path in sorted(self.directory.glob(f"n1.{kind}*.jsonl"))
            for line in path.read_bytes().splitlines()
        ]

    async def denied(self, count, event="denied"):
        """Those lines, once there are so many."""
        deadline = time.monotonic() + 10
        while (
            len(found := [each for each in self.lines("denied") if each["event"] == event]) < count
        ):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)
        return found

    def break_it(self):
        """The directory cannot be written to: there is a file in its place."""
        self.directory.rename(self.directory.with_name("away"))
        self.directory.touch()

    def mend_it(self):
        self.directory.unlink()
        self.directory.with_name("away").rename(self.directory)


@pytest.fixture
async def make_kit(world, tmp_path):
    made = []

    async def make(**settings):
        made.append(Kit(world, tmp_path, **settings))
        await made[-1].start()
        return made[-1]

    yield make
    for each in made:
        await each.audit.stop()


@pytest.fixture
async def kit(make_kit):
    return await make_kit()


KINDS = {
    "change": [
        *("s3:CreateBucket", "s3:DeleteBucket", "s3:PutBucketPolicy", "s3:PutBucketAcl"),
        *("s3:PutObjectAcl", "s3:PutLifecycleConfiguration", "s3:PutBucketNotification"),
        *(
            "iam:CreateUser",
            "iam:Request",
            "admin:DrainDisk",
            "admin:CreateToken",
            "sns:CreateTopic",
        ),
        *("s3:BypassGovernanceRetention", "s3:PutObjectLegalHold"),
        *("made:Up", "s3:MadeUp", "MadeUp"),
    ],
    "credentials": ["sts:AssumeRole", "sts:GetSessionToken", "sts:AssumeRoleWithWebIdentity"],
    "": [
        *("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:PutObjectTagging"),
        *("s3:ListBucket", "s3:GetBucketPolicy", "admin:GetCluster", "iam:ListUsers"),
        *("iam:SimulatePrincipalPolicy", "sts:GetCallerIdentity", "s3:AbortMultipartUpload"),
    ],
}


@pytest.mark.parametrize(
    ("action", "kind"), [(action, kind) for kind, actions in KINDS.items() for action in actions]
)
def test_what_is_an_administrative_action(action, kind):
    assert kind_of(action) == kind


async def test_a_change_is_written_before_it_is_done_and_before_it_is_answered(kit):
    seen = []

    async def look(scope, receive, send):
        seen.append([each["event"] for each in kit.lines()])
        await send({"type": "http.response.start", "status": 201, "headers": []})
        seen.append([each["event"] for each in kit.lines()])
        await send({"type": "http.response.body", "body": b"done"})

    kit.front_end.responses[b"/iam:CreateUser"] = look
    agent = [(b"user-agent", b"aws-cli/2.0 \x9b" + b"x" * 1000)]
    answer = await kit.act(b"/iam:CreateUser", headers=agent)
    assert (answer.status, answer.body) == (201, b"done")
    assert seen == [["begun"], ["begun", "done"]]
    begun, done = kit.lines()
    assert done == {**begun, "time": done["time"], "event": "done", "status": 201, "code": ""}
    assert begun["time"] <= done["time"]
    (request,) = kit.front_end.handled
    assert begun["request_id"] == request.request_id
    assert begun["action"] == "iam:CreateUser"
    assert begun["resource"] == "arn:/iam:CreateUser"
    assert (begun["identity"], begun["access_key"]) == (kit.world.root.identity.arn, "AKIAROOT")
    assert (begun["source_ip"], begun["secure"]) == ("127.0.0.1", False)
    assert begun["user_agent"].startswith("aws-cli/2.0 \x9b")
    assert len(begun["user_agent"]) == 256


async def test_data_and_reading_leave_no_line(kit):
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await kit.client.call(method, b"/b/k")
        assert answer.status == 200
    assert (await kit.act(b"/iam:ListUsers")).status == 200
    assert kit.lines() == []


async def test_failures_have_their_code(kit):
    async def missing(scope, receive, send):
        raise NotFound("no such user", reason="NoSuchEntity")

    async def broken(scope, receive, send):
        raise ValueError("what only we should know")

    kit.front_end.responses |= {b"/iam:DeleteUser": missing, b"/iam:UpdateUser": broken}
    assert (await kit.act(b"/iam:DeleteUser")).status == 404
    assert (await kit.act(b"/iam:UpdateUser")).status == 500
    done = [each for each in kit.lines() if each["event"] == "done"]
    assert [(each["status"], each["code"]) for each in done] == [
        (404, "NoSuchEntity"),
        (500, "InternalError"),
    ]


async def test_what_cannot_be_written_down_is_not_done(kit, caplog):
    kit.break_it()
    answer = await kit.act(b"/iam:CreateUser")
    assert (answer.status, answer.reason) == (503, "audit")
    assert kit.front_end.handled == []
    assert kit.metrics.gauges["objectio_audit_failed"]() == 1
    assert "cannot be written" in caplog.text
    # All that is no change goes on.
    for method in ("GET", "PUT", "DELETE"):
        assert (await kit.client.call(method, b"/b/k")).status == 200
    kit.mend_it()
    assert (await kit.act(b"/iam:CreateUser")).status == 200
    assert [each["event"] for each in kit.lines()] == ["begun", "done"]
    assert kit.metrics.gauges["objectio_audit_failed"]() == 0


async def test_it_finds_out_by_itself_that_it_can_be_written_again(kit, monkeypatch):
    monkeypatch.setattr("objectio.gateway.audit.TRY_SECONDS", 0.01)
    kit.break_it()
    assert (await kit.act(b"/iam:CreateUser")).status == 503
    kit.mend_it()
    deadline = time.monotonic() + 10
    while kit.metrics.gauges["objectio_audit_failed"]():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert [each["event"] for each in kit.lines()] == ["resumed"]


async def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(kit, monkeypatch):
    monkeypatch.setattr("objectio.gateway.audit.WRITE_SECONDS_MAX", 0.05)
    stuck = threading.Event()
    kit.audit._executor.submit(stuck.wait)
    try:
        answer = await kit.act(b"/iam:CreateUser")
        assert (answer.status, answer.reason) == (503, "audit")
        assert kit.front_end.handled == []
    finally:
        stuck.set()
    assert (await kit.act(b"/iam:UpdateUser")).status == 200
    assert [(each["event"], each["action"]) for each in kit.lines()] == [
        ("begun", "iam:CreateUser"),  # and no end: nothing was done
        ("begun", "iam:UpdateUser"),
        ("done", "iam:UpdateUser"),
    ]


async def test_what_is_done_is_answered_so_though_its_end_cannot_be_written(kit, caplog):
    async def fill(scope, receive, send):
        kit.break_it()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a new secret key"})

    kit.front_end.responses[b"/iam:CreateAccessKey"] = fill
    answer = await kit.act(b"/iam:CreateAccessKey")
    assert (answer.status, answer.body) == (200, b"a new secret key")
    assert "iam:CreateAccessKey" in caplog.text
    assert (await kit.act(b"/iam:CreateUser")).status == 503
    kit.mend_it()
    assert [(each["event"], each["action"]) for each in kit.lines()] == [
        ("begun", "iam:CreateAccessKey")
    ]


@pytest.mark.parametrize("fails", [False, True])
async def test_credentials_are_given_only_with_a_line(kit, fails):
    """Who may ask for some is nobody yet: what was not given is in no file of ours."""
    status = 200

    async def give(scope, receive, send):
        await scope["objectio"].acts("sts:AssumeRoleWithWebIdentity", "arn:aws:iam::1:role/r")
        if fails:
            kit.break_it()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"credentials"})

    kit.front_end.responses[b"/public/sts:Request"] = give
    answer = await kit.act(b"/public/sts:Request", by=None)
    if fails:
        assert answer.status == 503
        assert b"credentials" not in answer.body
        kit.mend_it()
        assert kit.lines() == kit.lines("credentials") == []
        return
    assert answer.body == b"credentials"
    (done,) = kit.lines("credentials")
    assert kit.lines() == []  # whoever has a key can make such lines, which push no change out
    assert (done["event"], done["action"]) == ("done", "sts:AssumeRoleWithWebIdentity")
    assert done["identity"] == "*"
    status = 400
    await kit.act(b"/public/sts:Request", by=None)
    assert len(kit.lines("credentials")) == 1


async def test_an_action_that_stands_in_the_body(kit):
    async def act(scope, receive, send):
        assert kit.lines() == []
        await scope["objectio"].acts("iam:CreateUser", "arn:aws:iam::1:user/alice")
        assert [each["event"] for each in kit.lines()] == ["begun"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    kit.front_end.responses[b"/public/iam:Request"] = act
    assert (await kit.act(b"/public/iam:Request")).status == 200
    (begun, done) = kit.lines()
    assert begun["action"] == done["action"] == "iam:CreateUser"
    assert begun["resource"] == "arn:aws:iam::1:user/alice"


async def test_denials(kit):
    world = kit.world
    wrong = Credential("AKIAROOT", "another-secret", world.root.identity)
    await kit.client.call(by=world.bob)  # knows nothing of the object
    await kit.client.call(by=None)
    await kit.client.call(by=wrong)
    unknown = [b"AKIANOBODY1234567890"[:20], b"canary/secret+in+the+wrong+place+2345678"]
    for key in unknown:
        await kit.client.call(by=Credential(key.decode(), "another-secret", world.root.identity))
    await kit.act(b"/iam:CreateUser", by="bob")
    found = await kit.denied(6)
    assert {each["status"] for each in found} == {403}
    assert [each["code"] for each in found[2:5]] == [
        *("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidAccessKeyId")
    ]
    keys = [each["access_key"] for each in found]
    assert keys == ["AKIABOB", "", "AKIAROOT", "AKIANOBODY1234567890", "", "AKIABOB"]
    assert found[0]["action"] == "s3:GetObject"
    assert found[0]["identity"] == "arn:bob"
    assert found[5]["action"] == "iam:CreateUser"
    assert len({each["request_id"] for each in found}) == 6
    assert kit.lines() == []
    assert world.canary not in str(kit.lines("denied"))


async def test_credentials_that_are_refused_otherwise_are_denials_too(kit):
    """S3 answers 400 to a token that has expired or is none, and to a signature that is malformed."""
    world = kit.world
    session = [(b"x-amz-security-token", b"canary")]
    for headers in (session, [(b"authorization", b"Bearer canary")], [(b"authorization", b"x")]):
        answer = await kit.client.call(
            by=world.root if headers is session else None, headers=headers
        )
        assert answer.status in (400, 403)
    found = await kit.denied(3)
    assert found[0]["code"] == "InvalidToken"
    assert {each["identity"] for each in found} == {"*"}
    assert "canary" not in str(found)


async def test_a_page_that_says_denied_is_a_denial(kit):
    async def show(scope, receive, send):
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"<h1>Forbidden</h1>"})

    kit.front_end.responses[b"/b/k"] = show
    assert (await kit.client.call()).status == 403
    (line,) = await kit.denied(1)
    assert (line["action"], line["status"], line["code"]) == ("s3:GetObject", 403, "AccessDenied")


async def test_what_is_denied_after_the_answer_began(kit):
    async def begin(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        raise AccessDenied("no", action="s3:GetObject", resource="arn:aws:s3:::b/k")

    kit.front_end.responses[b"/b/k"] = begin
    with pytest.raises(AccessDenied):
        await kit.client.call()
    (line,) = await kit.denied(1)
    assert (line["resource"], line["status"]) == ("arn:aws:s3:::b/k", 200)


async def test_a_lock_that_is_bypassed_is_a_change(kit):
    """Though it is the data of objects that goes: it was not to go yet."""
    kit.front_end.also = [Wanted("s3:BypassGovernanceRetention", "arn:aws:s3:::b/k", "v")]
    assert (await kit.act(b"/s3:DeleteObjectVersion")).status == 200
    begun, done = kit.lines()
    assert (begun["event"], done["event"], done["status"]) == ("begun", "done", 200)
    assert begun["action"] == "s3:BypassGovernanceRetention"
    assert begun["resource"] == "arn:aws:s3:::b/k"
    kit.front_end.also = [Wanted("s3:PutObjectAcl", "arn:aws:s3:::b/k")]
    await kit.act(b"/s3:PutObject", method="PUT")
    assert len(kit.lines()) == 2


async def test_what_was_denied_of_a_request_that_went_on(kit):
    async def delete(scope, receive, send):
        scope["objectio"].denied = [Wanted("s3:DeleteObject", f"arn:{n}") for n in range(3)]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    kit.front_end.responses[b"/b"] = delete
    assert (await kit.client.call("POST", b"/b")).status == 200
    (line,) = await kit.denied(1)
    assert (line["action"], line["resource"], line["count"]) == ("s3:DeleteObject", "arn:0", 3)
    assert (line["status"], line["code"]) == (200, "AccessDenied")


async def test_what_is_denied_besides_is_named(kit):
    async def copy(scope, receive, send):
        raise AccessDenied("no", reason="AccessDenied", action="s3:GetObject", resource="arn:src")

    kit.front_end.responses[b"/b/copy"] = copy
    assert (await kit.client.call("GET", b"/b/copy")).status == 403
    (line,) = await kit.denied(1)
    assert (line["action"], line["resource"]) == ("s3:GetObject", "arn:src")


async def test_a_flood_of_denials_is_counted_and_pushes_nothing_out(make_kit):
    kit = await make_kit(denied_per_second_max=5.0, file_bytes_max=1 << 16)
    assert (await kit.act(b"/iam:CreateUser")).status == 200
    for _ in range(205):
        assert (await kit.client.call(by=None, path=b"/b/" + b"k" * 2000)).status == 403
    await kit.denied(1, "left_out")
    await kit.audit.stop()
    found = kit.lines("denied")
    denied = sum(each["event"] == "denied" for each in found)
    left_out = sum(each["count"] for each in found if each["event"] == "left_out")
    assert 5 <= denied <= 5 + 5 * 10
    assert denied + left_out == 205
    assert kit.metrics.counts["objectio_audit_left_out_total",] == left_out
    assert [each["event"] for each in kit.lines()] == ["begun", "done"]


async def test_denials_that_cannot_be_written_are_counted(kit, monkeypatch):
    monkeypatch.setattr("objectio.gateway.audit.DENIED_SECONDS", 0.02)
    kit.break_it()
    for _ in range(3):
        assert (await kit.client.call(by=None)).status == 403
    deadline = time.monotonic() + 10
    while kit.metrics.counts.get(("objectio_audit_left_out_total",)) != 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    kit.mend_it()
    (line,) = await kit.denied(1, "left_out")
    assert line["count"] == 3


async def test_what_waits_is_written_at_the_end(kit):
    await kit.client.call(by=None)
    await kit.audit.stop()
    assert len(kit.lines("denied")) == 1


async def test_many_changes_at_once_each_have_their_lines(kit):
    answers = await asyncio.gather(*(kit.act(b"/iam:CreateUser") for _ in range(200)))
    assert {answer.status for answer in answers} == {200}
    found = {}
    for each in kit.lines():
        found.setdefault(each["request_id"], []).append(each["event"])
    assert len(found) == 200
    assert set(map(tuple, found.values())) == {("begun", "done")}


async def test_a_header_that_came_twice(kit):
    twice = [(b"x-amz-date", b"x"), (b"x-amz-date", b"y")]
    assert (await kit.client.call(by=None, headers=twice)).status == 403
    assert len(await kit.denied(1)) == 1


async def test_who_does_not_wait_for_the_answer_is_denied_all_the_same(kit):
    async def gone(message):
        raise OSError("the client has gone")

    app, sent = kit.client.app, {"type": "http.request", "body": b"", "more_body": False}

    async def receive():
        return sent

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/b/k",
        "raw_path": b"/b/k",
        "query_string": b"",
        "headers": [(b"host", b"h")],
        "scheme": "http",
        "client": ("192.0.2.1", 1),
    }
    with pytest.raises(OSError, match="gone"):
        await app(scope, receive, gone)
    (line,) = await kit.denied(1)
    assert (line["source_ip"], line["status"]) == ("192.0.2.1", 403)
