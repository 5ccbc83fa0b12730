"""Requests that are right, of every kind that S3 has: what the fuzzers begin with."""

from __future__ import annotations

from typing import NamedTuple


class Seed(NamedTuple):
    method: str
    target: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """A line of the request, lines of headers, an empty one, the body: what a fuzzer mutates."""
        lines = [
            f"{self.method} {self.target}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\n".join(lines) + "\n\n" + self.body).encode()


POLICY = """{"Version": "2012-10-17", "Id": "p", "Statement": [{"Sid": "s", "Effect": "Allow",
"Principal": {"AWS": ["arn:aws:iam::111111111111:root", "*"]}, "Action": ["s3:GetObject", "s3:Put*"],
"Resource": "arn:aws:s3:::bucket/${aws:username}/*", "Condition": {"StringLike": {"aws:Referer":
["http://*.example.com/*"]}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "NumericLessThanEquals":
{"s3:max-keys": "10"}, "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}, "Null":
{"s3:x-amz-server-side-encryption": "true"}, "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
{"Effect": "Deny", "NotPrincipal": {"AWS": "111111111111"}, "NotAction": "s3:List*", "NotResource":
["arn:aws:s3:::bucket"], "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}"""

_CORS = """<CORSConfiguration><CORSRule><ID>x</ID><AllowedOrigin>http://*.example.com</AllowedOrigin>
<AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>
<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule></CORSConfiguration>"""

_LIFECYCLE = """<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>a</ID>
<Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>
<ObjectSizeGreaterThan>500</ObjectSizeGreaterThan></And></Filter><Expiration><Days>30</Days></Expiration>
<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays><NewerNoncurrentVersions>2
</NewerNoncurrentVersions></NoncurrentVersionExpiration><AbortIncompleteMultipartUpload>
<DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule><Rule><ID>b</ID>
<Prefix>old</Prefix><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>
</Rule><Rule><ID>c</ID><Filter><Tag><Key>t</Key><Value>u</Value></Tag></Filter><Status>Enabled</Status>
<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>
</LifecycleConfiguration>"""

_ENCRYPTION = """<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>
<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>testkey-1</KMSMasterKeyID>
</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>
</ServerSideEncryptionConfiguration>"""

_LOCK = """<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>
<Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"""

_NOTIFY = """<NotificationConfiguration><QueueConfiguration><Id>q</Id><Queue>arn:aws:sqs:us-east-1::hook
</Queue><Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>in/</Value>
</FilterRule><FilterRule><Name>suffix</Name><Value>.jpg</Value></FilterRule></S3Key></Filter>
</QueueConfiguration></NotificationConfiguration>"""

_ACL = """<AccessControlPolicy><Owner><ID>root</ID><DisplayName>root</DisplayName></Owner>
<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
xsi:type="CanonicalUser"><ID>root</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant><Grant>
<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">
<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>
</AccessControlList></AccessControlPolicy>"""

_WEBSITE = """<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument><ErrorDocument>
<Key>error.html</Key></ErrorDocument><RoutingRules><RoutingRule><Condition><KeyPrefixEquals>docs/
</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>documents/</ReplaceKeyPrefixWith></Redirect>
</RoutingRule></RoutingRules></WebsiteConfiguration>"""

_FORM_TYPE = (("content-type", "multipart/form-data; boundary=b0undary"),)
_FORM = "".join(
    f'--b0undary\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    for name, value in (
        ("key", "up/${filename}"),
        ("acl", "private"),
        ("Content-Type", "text/plain"),
        ("success_action_status", "201"),
        ("x-amz-meta-a", "b"),
        ("tagging", "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"),
    )
) + (
    '--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\n'
    "Content-Type: text/plain\r\n\r\nthe body\r\n--b0undary--\r\n"
)

_DOCUMENTS = {
    "policy": POLICY,
    "cors": _CORS,
    "lifecycle": _LIFECYCLE,
    "encryption": _ENCRYPTION,
    "object-lock": _LOCK,
    "notification": _NOTIFY,
    "acl": _ACL,
    "website": _WEBSITE,
    "versioning": "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    "publicAccessBlock": "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>"
    "<RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
    "ownershipControls": "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>"
    "</OwnershipControls>",
    "requestPayment": "<RequestPaymentConfiguration><Payer>BucketOwner</Payer>"
    "</RequestPaymentConfiguration>",
    "logging": "<BucketLoggingStatus><LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix>p"
    "</TargetPrefix></LoggingEnabled></BucketLoggingStatus>",
    "accelerate": "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>",
    "replication": "<ReplicationConfiguration><Role>arn:aws:iam::1:role/r</Role><Rule><Status>Enabled"
    "</Status><Prefix></Prefix><Destination><Bucket>arn:aws:s3:::other</Bucket></Destination></Rule>"
    "</ReplicationConfiguration>",
}

_READS = (
    "/",
    "/?max-buckets=5&prefix=b&continuation-token=YQ==",
    "/bucket",
    "/bucket?list-type=2&prefix=a/&delimiter=/&max-keys=3&start-after=a&fetch-owner=true",
    "/bucket?prefix=a&delimiter=%2F&marker=b&encoding-type=url",
    "/bucket?versions&key-marker=key&version-id-marker=null&max-keys=2",
    "/bucket?uploads&key-marker=a&upload-id-marker=b&prefix=k",
    "/bucket?location",
    "/bucket?policyStatus",
    *(f"/bucket?{name}" for name in _DOCUMENTS),
    "/bucket/key?response-content-type=text/plain&response-expires=x",
    "/bucket/key?versionId=null",
    "/bucket/key?partNumber=1",
    "/bucket/key?acl&versionId=null",
    "/bucket/key?tagging",
    "/bucket/key?retention",
    "/bucket/key?legal-hold",
    "/bucket/key?uploadId=x&max-parts=3&part-number-marker=1",
)

_CONDITIONS = (
    ("range", "bytes=0-3,5-6"),
    ("if-match", '"d41d8cd98f00b204e9800998ecf8427e", "x"'),
    ("if-none-match", "*"),
    ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
    ("if-unmodified-since", "Sat, 29 Oct 2034 19:43:31 GMT"),
    ("x-amz-checksum-mode", "ENABLED"),
)

_CUSTOMER_KEY = (
    ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-server-side-encryption-customer-key", "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs="),
    ("x-amz-server-side-encryption-customer-key-md5", "DWygnHRtgiJ77HCm+1rvHw=="),
)

SEEDS = (
    *(Seed("GET", target) for target in _READS),
    Seed("HEAD", "/bucket"),
    Seed("HEAD", "/bucket/key", headers=_CONDITIONS[1:]),
    Seed("GET", "/bucket/key", headers=_CONDITIONS),
    Seed("GET", "/bucket/key", headers=_CUSTOMER_KEY),
    Seed(
        "GET",
        "/bucket/key?attributes",
        headers=(
            ("x-amz-object-attributes", "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"),
            ("x-amz-max-parts", "3"),
            ("x-amz-part-number-marker", "0"),
        ),
    ),
    *(Seed("PUT", f"/bucket?{name}", body) for name, body in _DOCUMENTS.items()),
    *(Seed("DELETE", f"/other?{name}") for name in _DOCUMENTS),
    Seed(
        "PUT",
        "/new",
        "<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint>"
        "</CreateBucketConfiguration>",
        (
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-acl", "private"),
            ("x-amz-object-ownership", "ObjectWriter"),
        ),
    ),
    Seed("DELETE", "/new"),
    Seed(
        "PUT",
        "/bucket/made",
        "the body",
        (
            ("content-md5", "S4gGLMRcQbGWZdvGQZpJSQ=="),
            ("content-type", "text/plain"),
            ("x-amz-meta-color", "=?UTF-8?Q?bl=C3=BCe?="),
            ("x-amz-tagging", "a=b&c=d"),
            ("x-amz-storage-class", "STANDARD"),
            ("if-none-match", "*"),
            ("cache-control", "no-cache"),
            (
                "x-amz-grant-read",
                'id="root", uri="http://acs.amazonaws.com/groups/global/AllUsers"',
            ),
        ),
    ),
    Seed(
        "PUT",
        "/bucket/made",
        "the body",
        (
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ),
    ),
    Seed("PUT", "/bucket/made", "the body", _CUSTOMER_KEY),
    Seed(
        "PUT",
        "/bucket/made",
        "the body",
        (
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "testkey-1"),
            ("x-amz-server-side-encryption-context", "eyJhIjoiYiJ9"),
        ),
    ),
    Seed(
        "PUT",
        "/bucket/made",
        "the body",
        (
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", "2035-01-01T00:00:00Z"),
            ("x-amz-object-lock-legal-hold", "OFF"),
        ),
    ),
    Seed(
        "PUT",
        "/bucket/copy",
        "",
        (
            ("x-amz-copy-source", "/bucket/key?versionId=null"),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-tagging-directive", "COPY"),
            ("x-amz-copy-source-if-match", "*"),
            ("x-amz-copy-source-if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
        ),
    ),
    Seed("PUT", "/bucket/key?acl", _ACL),
    Seed("PUT", "/bucket/key?tagging", _DOCUMENTS["tagging"]),
    Seed("DELETE", "/bucket/key?tagging&versionId=null"),
    Seed("PUT", "/bucket/key?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>"),
    Seed(
        "PUT",
        "/bucket/key?retention",
        "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>"
        "2035-01-01T00:00:00.000Z</RetainUntilDate></Retention>",
        (("x-amz-bypass-governance-retention", "true"),),
    ),
    Seed(
        "DELETE",
        "/bucket/made?versionId=null",
        "",
        (("x-amz-if-match-size", "3"), ("if-match", "*")),
    ),
    Seed(
        "POST",
        "/bucket?delete",
        "<Delete><Quiet>false</Quiet><Object><Key>a</Key><VersionId>null"
        "</VersionId></Object><Object><Key>b</Key><ETag>x</ETag><Size>3</Size></Object></Delete>",
        (("x-amz-mfa", "serial 123456"),),
    ),
    Seed(
        "POST",
        "/bucket/big?uploads",
        "",
        (
            ("x-amz-checksum-algorithm", "CRC64NVME"),
            ("x-amz-checksum-type", "FULL_OBJECT"),
        ),
    ),
    Seed("PUT", "/bucket/big?uploadId=x&partNumber=1", "a part"),
    Seed(
        "PUT",
        "/bucket/big?uploadId=x&partNumber=2",
        "",
        (
            ("x-amz-copy-source", "bucket/key"),
            ("x-amz-copy-source-range", "bytes=0-3"),
        ),
    ),
    Seed(
        "POST",
        "/bucket/big?uploadId=x",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32>"
        "</Part></CompleteMultipartUpload>",
        (("x-amz-mp-object-size", "6"),),
    ),
    Seed("DELETE", "/bucket/big?uploadId=x"),
    Seed(
        "OPTIONS",
        "/bucket/key",
        "",
        (
            ("origin", "http://www.example.com"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-amz-meta-a, content-type"),
        ),
    ),
    Seed("POST", "/bucket", _FORM, _FORM_TYPE),
)
