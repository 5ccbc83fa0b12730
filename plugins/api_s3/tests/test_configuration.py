"""The sub-resources of a bucket: what is put is got again, what is malformed is refused."""

from __future__ import annotations

import json

import pytest

# Terraform's aws_s3_bucket and its companions read all of these of every bucket that they know.
# What AWS answers of a bucket where nothing is configured.
FRESH = {
    "abac": 200,
    "accelerate": 200,
    "acl": 200,
    "analytics": 200,
    "cors": "NoSuchCORSConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "intelligent-tiering": 200,
    "inventory": 200,
    "lifecycle": "NoSuchLifecycleConfiguration",
    "location": 200,
    "logging": 200,
    "metrics": 200,
    "notification": 200,
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "ownershipControls": 200,
    "policy": "NoSuchBucketPolicy",
    "policyStatus": 200,
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "replication": "ReplicationConfigurationNotFoundError",
    "requestPayment": 200,
    "tagging": "NoSuchTagSet",
    "versioning": 200,
    "versions": 200,
    "website": "NoSuchWebsiteConfiguration",
}


@pytest.mark.parametrize("subresource", FRESH)
async def test_a_fresh_bucket(s3, bucket, subresource):
    answer = await s3("GET", f"/bucket?{subresource}")
    if FRESH[subresource] == 200:
        assert answer.status == 200
    else:
        assert (answer.status, s3.code(answer)) == (404, FRESH[subresource])
    assert await s3.refused("GET", f"/missing?{subresource}") == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    "subresource", ["analytics", "inventory", "metrics", "intelligent-tiering"]
)
async def test_configurations_with_ids(s3, bucket, subresource):
    path = f"/bucket?{subresource}&id=one"
    assert await s3.refused("GET", path) == (404, "NoSuchConfiguration")
    assert await s3.refused("DELETE", path) == (404, "NoSuchConfiguration")
    document = await s3.document(f"/bucket?{subresource}")
    assert document.one("IsTruncated") == "false"


DOCUMENTS = [
    (
        "tagging",
        "<Tagging><TagSet><Tag><Key>a</Key><Value>b c:/@</Value></Tag>"
        "<Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>",
        "NoSuchTagSet",
    ),
    (
        "publicAccessBlock",
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>"
        "<IgnorePublicAcls>false</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>"
        "<RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
        "NoSuchPublicAccessBlockConfiguration",
    ),
    (
        "ownershipControls",
        "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>"
        "</OwnershipControls>",
        "OwnershipControlsNotFoundError",
    ),
    (
        "encryption",
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>one</KMSMasterKeyID>"
        "</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>"
        "</ServerSideEncryptionConfiguration>",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    (
        "cors",
        "<CORSConfiguration><CORSRule><ID>one</ID><AllowedMethod>GET</AllowedMethod>"
        "<AllowedOrigin>https://*.example</AllowedOrigin><AllowedHeader>*</AllowedHeader>"
        "<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>0</MaxAgeSeconds></CORSRule>"
        "</CORSConfiguration>",
        "NoSuchCORSConfiguration",
    ),
    (
        "website",
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
        "<ErrorDocument><Key>error.html</Key></ErrorDocument><RoutingRules><RoutingRule>"
        "<Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition><Redirect>"
        "<ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule>"
        "<RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
        "</Condition><Redirect><Protocol>https</Protocol><HostName>other.example</HostName>"
        "<ReplaceKeyWith>gone</ReplaceKeyWith><HttpRedirectCode>302</HttpRedirectCode></Redirect>"
        "</RoutingRule></RoutingRules></WebsiteConfiguration>",
        "NoSuchWebsiteConfiguration",
    ),
    (
        "website",
        "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>other.example</HostName>"
        "<Protocol>https</Protocol></RedirectAllRequestsTo></WebsiteConfiguration>",
        "NoSuchWebsiteConfiguration",
    ),
]


def flat(node):
    """Names, texts and children of an element, without namespaces."""
    name = node.tag.rpartition("}")[2]
    return name, (node.text or ""), [flat(child) for child in node]


@pytest.mark.parametrize(("subresource", "body", "code"), DOCUMENTS)
async def test_what_is_put_is_got_and_deleted(s3, bucket, subresource, body, code):
    import xml.etree.ElementTree as ET

    path = f"/bucket?{subresource}"
    answer = await s3("PUT", path, body=body.encode())
    assert answer.status in (200, 204), answer
    document = await s3.document(path)
    assert flat(document.root) == flat(ET.fromstring(body))
    for _ in range(2):  # that there is none is no error
        assert (await s3("DELETE", path)).status == 204
    assert await s3.refused("GET", path) == (404, code)


@pytest.mark.parametrize(("subresource", "body", "code"), DOCUMENTS)
async def test_nothing_unknown_is_kept(s3, bucket, subresource, body, code):
    end = body.rindex("</")
    path = f"/bucket?{subresource}"
    for wrong in (
        body[:end] + "<Unknown/>" + body[end:],
        body.replace("Configuration>", "Configured>").replace("Tagging>", "Tags>")
        if "Configuration>" in body or "Tagging>" in body
        else "<Other/>",
        body[:-3],
        "",
    ):
        assert await s3.refused("PUT", path, body=wrong.encode()) == (400, "MalformedXML")
    if subresource != "ownershipControls":  # which a new bucket has
        assert await s3.refused("GET", path) == (404, code)


BLOCK = "<PublicAccessBlockConfiguration>{}</PublicAccessBlockConfiguration>"
LOCK = "<ObjectLockConfiguration>{}</ObjectLockConfiguration>"
RULE = "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{}</DefaultRetention></Rule>"
SSE = (
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{}"
    "</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
)
TAGS = "<Tagging><TagSet>{}</TagSet></Tagging>"
SITE = "<WebsiteConfiguration>{}</WebsiteConfiguration>"
INDEX = "<IndexDocument><Suffix>i</Suffix></IndexDocument>"
ROUTE = f"{INDEX}<RoutingRules><RoutingRule>{{}}</RoutingRule></RoutingRules>"
CORS = "<CORSConfiguration><CORSRule>{}</CORSRule></CORSConfiguration>"
ALLOW = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"


def tag(key, value="v"):
    return f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"


@pytest.mark.parametrize(
    ("subresource", "body", "code"),
    [
        ("publicAccessBlock", BLOCK.format("<BlockPublicAcls>x</BlockPublicAcls>"), "MalformedXML"),
        (
            "ownershipControls",
            "<OwnershipControls><Rule><ObjectOwnership>Me</ObjectOwnership></Rule></OwnershipControls>",
            "MalformedXML",
        ),
        (
            "object-lock",
            LOCK.format("<ObjectLockEnabled>Disabled</ObjectLockEnabled>"),
            "MalformedXML",
        ),
        ("object-lock", LOCK.format(""), "MalformedXML"),
        ("object-lock", LOCK.format(RULE.format("<Mode>GOVERNANCE</Mode>")), "MalformedXML"),
        (
            "object-lock",
            LOCK.format(RULE.format("<Mode>governance</Mode><Days>1</Days>")),
            "MalformedXML",
        ),
        (
            "object-lock",
            LOCK.format(RULE.format("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>")),
            "MalformedXML",
        ),
        (
            "object-lock",
            LOCK.format(RULE.format("<Mode>GOVERNANCE</Mode><Days>0</Days>")),
            "InvalidRetentionPeriod",
        ),
        (
            "object-lock",
            LOCK.format(RULE.format("<Mode>COMPLIANCE</Mode><Years>-1</Years>")),
            "InvalidRetentionPeriod",
        ),
        (
            "object-lock",
            LOCK.format(RULE.format("<Mode>COMPLIANCE</Mode><Years>101</Years>")),
            "InvalidRetentionPeriod",
        ),
        ("encryption", SSE.format("<SSEAlgorithm>DES</SSEAlgorithm>"), "MalformedXML"),
        (
            "encryption",
            SSE.format("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"),
            "InvalidArgument",
        ),
        ("tagging", TAGS.format(tag("a") + tag("a")), "InvalidTag"),
        ("tagging", TAGS.format(tag("")), "InvalidTag"),
        ("tagging", TAGS.format(tag("AWS:x")), "InvalidTag"),
        ("tagging", TAGS.format(tag("a" * 129)), "InvalidTag"),
        ("tagging", TAGS.format(tag("a", "v" * 257)), "InvalidTag"),
        ("tagging", TAGS.format("".join(tag(f"k{at}") for at in range(51))), "BadRequest"),
        ("tagging", TAGS.format("<Tag><Key>a</Key></Tag>"), "MalformedXML"),
        ("website", SITE.format(""), "InvalidArgument"),
        ("website", SITE.format(INDEX.replace("i<", "a/b<")), "InvalidArgument"),
        (
            "website",
            SITE.format(
                f"{INDEX}<RedirectAllRequestsTo><HostName>a</HostName></RedirectAllRequestsTo>"
            ),
            "MalformedXML",
        ),
        (
            "website",
            SITE.format("<RedirectAllRequestsTo><HostName>a/b</HostName></RedirectAllRequestsTo>"),
            "InvalidArgument",
        ),
        ("website", SITE.format(ROUTE.format("<Redirect/>")), "MalformedXML"),
        (
            "website",
            SITE.format(ROUTE.format("<Redirect><Protocol>ftp</Protocol></Redirect>")),
            "InvalidRequest",
        ),
        (
            "website",
            SITE.format(
                ROUTE.format("<Redirect><HttpRedirectCode>200</HttpRedirectCode></Redirect>")
            ),
            "InvalidRequest",
        ),
        (
            "website",
            SITE.format(
                ROUTE.format(
                    "<Redirect><ReplaceKeyWith>a</ReplaceKeyWith>"
                    "<ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect>"
                )
            ),
            "InvalidRequest",
        ),
        ("cors", "<CORSConfiguration/>", "MalformedXML"),
        ("cors", CORS.format("<AllowedMethod>GET</AllowedMethod>"), "MalformedXML"),
        ("cors", CORS.format(ALLOW.replace("GET", "PATCH")), "InvalidRequest"),
        ("cors", CORS.format(ALLOW.replace("*", "*.*")), "InvalidRequest"),
        ("cors", CORS.format(ALLOW + "<ExposeHeader>a&#10;b</ExposeHeader>"), "InvalidRequest"),
        ("cors", CORS.format(ALLOW + "<ExposeHeader>a: b</ExposeHeader>"), "InvalidRequest"),
        ("cors", CORS.format(ALLOW + "<MaxAgeSeconds>-1</MaxAgeSeconds>"), "InvalidRequest"),
        ("cors", CORS.format(ALLOW + "<MaxAgeSeconds>x</MaxAgeSeconds>"), "MalformedXML"),
        (
            "cors",
            "<CORSConfiguration>" + f"<CORSRule>{ALLOW}</CORSRule>" * 101 + "</CORSConfiguration>",
            "MalformedXML",
        ),
        ("versioning", "<VersioningConfiguration/>", "IllegalVersioningConfigurationException"),
        (
            "versioning",
            "<VersioningConfiguration><Status>On</Status></VersioningConfiguration>",
            "MalformedXML",
        ),
        ("policy", "{", "MalformedPolicy"),
        ("policy", "", "MalformedPolicy"),
    ],
)
async def test_what_is_refused(s3, subresource, body, code):
    await s3.put("/locked", b"", {"x-amz-bucket-object-lock-enabled": "true"})
    path = f"/locked?{subresource}"
    before = (await s3("GET", path)).status
    assert await s3.refused("PUT", path, body=body.encode()) == (400, code)
    assert (await s3("GET", path)).status == before


def status(value):
    return f"<VersioningConfiguration><Status>{value}</Status></VersioningConfiguration>".encode()


async def test_versioning(s3, bucket):
    for value in ("Enabled", "Suspended", "Enabled"):
        assert (await s3("PUT", "/bucket?versioning", body=status(value))).status == 200
        assert (await s3.document("/bucket?versioning")).one("Status") == value
    assert await s3.refused("PUT", "/missing?versioning", body=status("Enabled")) == (
        404,
        "NoSuchBucket",
    )


async def test_object_lock(s3, bucket):
    days = LOCK.format(RULE.format("<Mode>GOVERNANCE</Mode><Days>7</Days>")).encode()
    path = "/bucket?object-lock"
    assert await s3.refused("PUT", path, body=days) == (409, "InvalidBucketState")
    await s3("PUT", "/bucket?versioning", body=status("Enabled"))
    await s3.put(path, days)
    shown = await s3.document(path)
    assert shown.one("ObjectLockEnabled") == "Enabled"
    assert shown.one("Rule/DefaultRetention/Mode") == "GOVERNANCE"
    assert shown.one("Rule/DefaultRetention/Days") == "7"
    # It stays on, and so does versioning; the default can be taken away.
    refused = await s3.refused("PUT", "/bucket?versioning", body=status("Suspended"))
    assert refused == (409, "InvalidBucketState")
    await s3.put(path, LOCK.format("<ObjectLockEnabled>Enabled</ObjectLockEnabled>").encode())
    shown = await s3.document(path)
    assert shown.one("ObjectLockEnabled") == "Enabled"
    assert shown.count("Rule") == 0


def policy(effect="Allow", principal="*", **more):
    statement = {
        "Effect": effect,
        "Principal": principal,
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::bucket/*",
        **more,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=1).encode()


NARROW = {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.1/32"}}}


async def test_policy(s3, bucket):
    assert (await s3("PUT", "/bucket?policy", body=policy())).status == 204
    answer = await s3("GET", "/bucket?policy")
    assert (answer.body, answer.headers["content-type"]) == (policy(), "application/json")
    assert (await s3.document("/bucket?policyStatus")).one("IsPublic") == "true"
    assert (await s3("PUT", "/bucket?policy", body=policy(**NARROW))).status == 204
    assert (await s3.document("/bucket?policyStatus")).one("IsPublic") == "false"
    for _ in range(2):
        assert (await s3("DELETE", "/bucket?policy")).status == 204
    assert await s3.refused("GET", "/bucket?policy") == (404, "NoSuchBucketPolicy")


async def test_a_public_policy_is_blocked(s3, bucket):
    body = BLOCK.format("<BlockPublicPolicy>true</BlockPublicPolicy>").encode()
    await s3.put("/bucket?publicAccessBlock", body)
    assert await s3.refused("PUT", "/bucket?policy", body=policy()) == (403, "AccessDenied")
    assert (await s3("PUT", "/bucket?policy", body=policy(**NARROW))).status == 204


async def test_a_policy_waits_for_a_block_that_is_put_meanwhile(objects, make_s3, monkeypatch):
    """What a public policy was judged by has changed before it is written: ask again."""
    s3 = make_s3(objects)
    await s3.put("/bucket", b"")
    block = BLOCK.format("<BlockPublicPolicy>true</BlockPublicPolicy>").encode()
    read = objects.get_documents

    async def read_and_block(info):
        found = await read(info)
        monkeypatch.setattr(objects, "get_documents", read)
        await s3.put("/bucket?publicAccessBlock", block)
        return found

    monkeypatch.setattr(objects, "get_documents", read_and_block)
    assert await s3.refused("PUT", "/bucket?policy", body=policy()) == (503, "SlowDown")
    assert await s3.refused("PUT", "/bucket?policy", body=policy()) == (403, "AccessDenied")


async def test_a_policy_has_a_size(s3, bucket):
    body = policy(Sid="x" * 21_000)
    status_, _ = await s3.refused("PUT", "/bucket?policy", body=body)
    assert status_ == 400


async def test_acl(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    await s3.put("/bucket", b"")
    assert (await s3.document("/bucket?acl")).all("AccessControlList/Grant/Permission") == [
        "FULL_CONTROL"
    ]
    await s3.put("/bucket?acl", b"", {"x-amz-acl": "public-read"})
    shown = await s3.document("/bucket?acl")
    assert shown.all("AccessControlList/Grant/Permission") == ["READ", "FULL_CONTROL"]
    assert (await s3.document("/bucket?policyStatus")).one("IsPublic") == "true"
    # ACLs cannot be switched off while they give somebody something.
    enforced = (
        b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
        b"</OwnershipControls>"
    )
    path = "/bucket?ownershipControls"
    refused = await s3.refused("PUT", path, body=enforced)
    assert refused == (400, "InvalidBucketAclWithObjectOwnership")
    await s3.put("/bucket?acl", b"", {"x-amz-acl": "private"})
    await s3.put(path, enforced)
    refused = await s3.refused("PUT", "/bucket?acl", headers={"x-amz-acl": "public-read"})
    assert refused == (400, "AccessControlListNotSupported")


async def test_a_public_acl_is_blocked(objects, make_s3):
    s3 = make_s3(objects, object_ownership="ObjectWriter")
    await s3.put("/bucket", b"")
    await s3.put(
        "/bucket?publicAccessBlock",
        BLOCK.format("<BlockPublicAcls>true</BlockPublicAcls>").encode(),
    )
    for name in ("public-read", "public-read-write", "authenticated-read"):
        refused = await s3.refused("PUT", "/bucket?acl", headers={"x-amz-acl": name})
        assert refused == (403, "AccessDenied")
    await s3.put("/bucket?acl", b"", {"x-amz-acl": "private"})


@pytest.mark.parametrize(
    ("subresource", "body"),
    [
        (
            "requestPayment",
            "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
        ),
        (
            "accelerate",
            "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>",
        ),
        (
            "logging",
            "<BucketLoggingStatus><LoggingEnabled><TargetBucket>bucket</TargetBucket>"
            "<TargetPrefix/></LoggingEnabled></BucketLoggingStatus>",
        ),
        ("abac", "<AbacStatus><Status>Enabled</Status></AbacStatus>"),
        ("replication", "<ReplicationConfiguration/>"),
        ("inventory&id=a", "<InventoryConfiguration/>"),
        (
            "versioning",
            "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"
            "</VersioningConfiguration>",
        ),
    ],
)
async def test_nothing_is_promised_that_nobody_does(s3, bucket, subresource, body):
    refused = await s3.refused("PUT", f"/bucket?{subresource}", body=body.encode())
    assert refused == (501, "NotImplemented")


async def test_what_is_off_can_be_switched_off(s3, bucket):
    for subresource, body in (
        (
            "requestPayment",
            b"<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
        ),
        (
            "accelerate",
            b"<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>",
        ),
        ("logging", b"<BucketLoggingStatus/>"),
        ("abac", b"<AbacStatus><Status>Disabled</Status></AbacStatus>"),
    ):
        await s3.put(f"/bucket?{subresource}", body)
    assert (await s3("DELETE", "/bucket?replication")).status == 204
    assert (await s3.document("/bucket?accelerate")).one("Status") == "Suspended"
    assert (await s3.document("/bucket?requestPayment")).one("Payer") == "BucketOwner"


async def test_expected_owner(s3, bucket):
    headers = {"x-amz-expected-bucket-owner": "someone"}
    for subresource, body, _ in DOCUMENTS:
        for method in ("GET", "PUT", "DELETE"):
            sent = body.encode() if method == "PUT" else b""
            answer = await s3(method, f"/bucket?{subresource}", headers=headers, body=sent)
            assert answer.status == 403, (method, subresource)
