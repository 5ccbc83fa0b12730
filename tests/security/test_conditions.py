"""What policies ask of a request: nobody can claim what only the gate knows."""

from __future__ import annotations

import pytest

OFFICE = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
AT_HOME, IN_OFFICE, PROXY = "203.0.113.5", "192.0.2.7", "10.0.0.1"


async def reads(world, client, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await world("GET", "/annas/key", headers=named, client=client)).status == 200


async def test_source_ip_is_that_of_the_connection(world):
    """RustFS CVE-2026-21862: X-Forwarded-For believed from anyone."""
    await world.allow("s3:GetObject", condition=OFFICE)
    assert await reads(world, IN_OFFICE)
    assert not await reads(world, AT_HOME)
    for name in ("x_forwarded_for", "x_real_ip", "forwarded", "x_client_ip", "true_client_ip"):
        assert not await reads(world, AT_HOME, **{name: IN_OFFICE})
        assert await reads(world, IN_OFFICE, **{name: AT_HOME})


async def test_source_ip_as_a_trusted_proxy_says(make_world):
    world = await make_world(trusted_proxies=["10.0.0.0/8", "2001:db8::/32"])
    await world.allow("s3:GetObject", condition=OFFICE)
    assert await reads(world, PROXY, x_forwarded_for=IN_OFFICE)
    assert await reads(world, "2001:db8::1", x_forwarded_for=f"{IN_OFFICE}:1234")
    assert await reads(world, "::ffff:10.0.0.1", x_forwarded_for=IN_OFFICE)
    assert await reads(world, PROXY, x_forwarded_for=f"{AT_HOME}, {IN_OFFICE}, 10.2.3.4")
    # What the client itself wrote stands before what the proxy adds.
    assert not await reads(world, PROXY, x_forwarded_for=f"{IN_OFFICE}, {AT_HOME}")
    assert not await reads(world, PROXY, x_forwarded_for=f"{IN_OFFICE}, nonsense")
    assert not await reads(world, PROXY)
    assert not await reads(world, AT_HOME, x_forwarded_for=IN_OFFICE)
    assert await reads(world, IN_OFFICE, x_forwarded_for=AT_HOME)


async def test_secure_transport_as_a_trusted_proxy_says(make_world):
    world = await make_world(trusted_proxies=[PROXY])
    await world.allow("s3:GetObject", condition={"Bool": {"aws:SecureTransport": "true"}})
    assert not await reads(world, PROXY)
    assert await reads(world, PROXY, x_forwarded_proto="https")
    assert not await reads(world, PROXY, x_forwarded_proto="http")
    assert not await reads(world, PROXY, x_forwarded_proto="https, http")
    assert not await reads(world, AT_HOME, x_forwarded_proto="https")


@pytest.mark.parametrize(
    "key",
    [
        "aws:username",
        "aws:userid",
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalType",
        "aws:PrincipalTag/team",
        "aws:SourceIp",
        "aws:FederatedProvider",
        "s3:authType",
    ],
)
async def test_reserved_keys_cannot_be_claimed(world, key):
    """RustFS 6r96: headers overwrote keys of the identity."""
    await world.allow("s3:GetObject", condition={"StringEquals": {key: "claimed"}})
    spellings = {key, key.lower(), key.replace(":", "-"), f"x-amz-{key.partition(':')[2]}"}
    for name in {spelled.lower() for spelled in spellings}:
        if all(character.isalnum() or character in "-_" for character in name):
            for by in (None, world.bert):
                answer = await world("GET", "/annas/key", by, headers={name: "claimed"})
                assert answer.status == 403, name
        for by in (None, world.bert):
            answer = await world("GET", f"/annas/key?{name}=claimed", by)
            assert answer.status != 200, name


async def test_reserved_keys_are_not_taken_from_tags_of_the_request(world):
    """What a request says comes first, so that it cannot stand for what is known."""
    await world.allow("s3:PutObject", condition={"StringEquals": {"aws:username": "user"}})
    headers = {"x-amz-tagging": "aws%3Ausername=user&../aws%3Ausername=user"}
    for by in (None, world.bert):
        answer = await world("PUT", "/annas/x", by, headers=headers, body=b"x")
        assert answer.status in (400, 403)


async def test_who_one_is_said_to_be(world):
    account, user_id = world.annas_account, None
    user = await world.identities.get_user(account, "user")
    user_id = user.id
    for key, value in (
        ("aws:username", "user"),
        ("aws:userid", user_id),
        ("aws:PrincipalArn", user.arn),
        ("aws:PrincipalAccount", account),
        ("aws:PrincipalType", "User"),
        ("s3:authType", "REST-HEADER"),
        ("s3:signatureversion", "AWS4-HMAC-SHA256"),
        ("aws:RequestedRegion", "us-east-1"),
        ("s3:ResourceAccount", account),
    ):
        await world.allow(
            "s3:GetObject", condition={"StringEquals": {key: value}}, principal={"AWS": user.arn}
        )
        assert (await world("GET", "/annas/key", world.user)).status == 200, key
        await world.allow(
            "s3:GetObject", condition={"StringNotEquals": {key: value}}, principal={"AWS": user.arn}
        )
        assert (await world("GET", "/annas/key", world.user)).status == 403, key


async def test_age_of_a_signature_and_how_it_was_sent(world):
    await world.allow("s3:GetObject", condition={"NumericLessThan": {"s3:signatureAge": "60000"}})
    query, headers = world.sign(world.bert, "GET", b"/annas/key", form="query")
    assert (await world.send("GET", b"/annas/key", query, headers)).status == 200
    world.clock += 61
    assert (await world.send("GET", b"/annas/key", query, headers)).status == 403
    await world.allow(
        "s3:GetObject", condition={"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}
    )
    assert (await world.send("GET", b"/annas/key", query, headers)).status == 200
    assert (await world("GET", "/annas/key", world.bert)).status == 403


async def test_tags_of_an_object_decide_only_where_they_are_asked_for(world):
    await world.put("annas", b"public", tags={"class": "public"})
    condition = {"StringEquals": {"s3:ExistingObjectTag/class": "public"}}
    await world.allow("s3:GetObject", condition=condition)
    assert (await world("GET", "/annas/public")).status == 200
    assert (await world("GET", "/annas/key")).status == 403
    assert (await world("GET", "/annas/none")).status == 403


@pytest.mark.parametrize(
    ("operator", "value", "allowed"),
    [
        ("ForAllValues:StringEquals", ["a"], True),
        ("ForAnyValue:StringEquals", ["a"], False),
        ("StringEqualsIfExists", ["a"], True),
        ("StringEquals", ["a"], False),
        ("StringNotEquals", ["a"], True),
        ("ForAnyValue:StringNotEquals", ["a"], False),
        ("Null", ["true"], True),
        ("Null", ["false"], False),
    ],
)
async def test_quantifiers_where_the_request_has_no_value(world, operator, value, allowed):
    """RustFS v9cp: ForAllValues and ForAnyValue with a negation."""
    await world.allow("s3:GetObject", condition={operator: {"s3:prefix": value}})
    assert (await world("GET", "/annas/key")).status == (200 if allowed else 403)


async def test_tags_that_differ_by_case_only_are_not_chosen_from(world):
    """A policy that allows one value of a tag, or denies one, is not passed by with a second."""
    actions = ("s3:PutObject", "s3:PutObjectTagging")
    only = {"StringEquals": {"s3:RequestObjectTag/dept": "open"}}
    never = {"StringEquals": {"s3:RequestObjectTag/dept": "secret"}}

    async def put(tags):
        headers = {"x-amz-tagging": tags}
        return (await world("PUT", "/annas/new", world.bert, headers=headers, body=b"x")).status

    await world.allow(*actions, condition=only)
    assert await put("dept=open") == await put("Dept=open&other=1") == 200
    assert await put("dept=secret&Dept=open") == await put("Dept=open&dept=secret") == 403
    await world.policy(
        world.make_statement(*actions),
        world.make_statement(*actions, effect="Deny", condition=never),
    )
    assert await put("dept=open") == 200
    assert await put("dept=secret&Dept=open") == await put("Dept=open&dept=secret") == 403

    await world.allow("s3:GetObject", condition={"StringEquals": {"s3:ExistingObjectTag/a": "1"}})
    await world.put("annas", b"key", tags={"A": "1"})
    assert await reads(world, AT_HOME)
    for tags in ({"a": "2", "A": "1"}, {"A": "1", "a": "2"}):
        await world.put("annas", b"key", tags=tags)
        assert not await reads(world, AT_HOME)


@pytest.mark.parametrize("how", ["GET", "HEAD", "copy", "copy with checksum", "part"])
@pytest.mark.parametrize("first", [True, False])
async def test_what_is_handed_out_is_what_was_judged(world, how, first):
    """Between the two somebody else may write the key."""
    tagged = {"StringNotEqualsIfExists": {"s3:ExistingObjectTag/open": "no"}}
    await world.policy(
        world.make_statement("s3:GetObject", condition=tagged),
        world.make_statement("s3:ListBucket", resource="annas"),
    )
    if first:
        await world.put("annas", b"k", b"open", tags={"open": "yes"})
    await world.objects.create_bucket("berts", owner="id-of-bert")
    source = {"x-amz-copy-source": "annas/k"}
    upload = (await world("POST", "/berts/p?uploads", world.bert)).body.decode()
    upload = upload.partition("<UploadId>")[2].partition("<")[0]
    read, changed = world.objects.head_object, []

    async def head_object(*args, **more):
        try:
            return await read(*args, **more)
        finally:
            if not changed:
                changed.append(await world.put("annas", b"k", b"secret", tags={"open": "no"}))

    world.objects.head_object = head_object
    if how == "copy with checksum":
        source["x-amz-checksum-algorithm"] = "SHA256"
    asked = {
        "part": ("PUT", f"/berts/p?partNumber=1&uploadId={upload}", source),
        "GET": ("GET", "/annas/k", {}),
        "HEAD": ("HEAD", "/annas/k", {}),
    }.get(how, ("PUT", "/berts/copy", source))
    answer = await world(*asked[:2], world.bert, headers=asked[2])
    assert changed
    assert answer.status == 503
    assert (await world(*asked[:2], world.bert, headers=asked[2])).status == 403


async def test_values_that_would_keep_the_gateway_busy_are_not_compared(world):
    """Who owns a bucket chooses what a policy looks for, and in what."""
    await world.allow("s3:GetObject", condition={"StringLike": {"aws:UserAgent": "*y"}})
    assert await reads(world, AT_HOME, user_agent="x" * 8_000 + "y")
    assert not await reads(world, AT_HOME, user_agent="x" * 9_000 + "y")
    await world.allow("s3:GetObject")
    assert await reads(world, AT_HOME, user_agent="x" * 9_000 + "y")


async def test_policies_of_many_buckets_do_not_fill_the_memory(world):
    """A bucket's policy costs its owner nothing, and each gateway some hundred kilobytes."""
    guard = world.gate._guard
    padding = {"StringNotEquals": {"aws:UserAgent": ["x" * 1_000 + str(i) for i in range(15)]}}
    for number in range(300):
        bucket = f"many{number}"
        await world.objects.create_bucket(bucket, owner="id-of-anna")
        await world.policy(
            world.make_statement("s3:GetObject", resource=f"{bucket}/*", condition=padding),
            bucket=bucket,
        )
        assert (await world("GET", f"/{bucket}/key", world.anna)).status == 404
    assert 200 < len(guard._rules) < 290
