"""fsspec's s3fs in a bucket with versions."""

import s3fs
from _where import ACCESS_KEY, BUCKET, CA_FILE, ENDPOINT, SECRET_KEY

where = {"endpoint_url": ENDPOINT, **({"verify": CA_FILE} if CA_FILE else {})}
files = s3fs.S3FileSystem(
    key=ACCESS_KEY, secret=SECRET_KEY, client_kwargs=where, version_aware=True
)
files.make_bucket_versioned(BUCKET)
assert files.is_bucket_versioned(BUCKET)
for body in (b"first", b"second", b"third"):
    files.pipe(f"{BUCKET}/file", body)
versions = files.object_version_info(f"{BUCKET}/file")
assert len({each["VersionId"] for each in versions}) == 3
oldest = versions[-1]["VersionId"]
assert files.cat_file(f"{BUCKET}/file", version_id=oldest) == b"first"
with files.open(f"{BUCKET}/file", version_id=versions[1]["VersionId"]) as stream:
    assert stream.read() == b"second"
assert files.cat(f"{BUCKET}/file") == b"third"
