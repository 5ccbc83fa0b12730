"""delta-rs: tables whose commits are If-None-Match writes; of writers at once each commits."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from _where import ACCESS_KEY, BUCKET, ENDPOINT, REGION, SECRET_KEY, TLS
from deltalake import DeltaTable, write_deltalake

WRITERS, EACH = 4, 5
options = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": REGION,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_ALLOW_HTTP": str(not TLS).lower(),
    "conditional_put": "etag",
}
table = f"s3://{BUCKET}/table"


def append(writer):
    for number in range(EACH):
        rows = pa.table({"writer": [writer], "number": [number]})
        write_deltalake(table, rows, mode="append", storage_options=options)


write_deltalake(table, pa.table({"writer": [-1], "number": [-1]}), storage_options=options)
with ThreadPoolExecutor(WRITERS) as pool:
    list(pool.map(append, range(WRITERS)))
found = DeltaTable(table, storage_options=options)
rows = found.to_pyarrow_table().to_pylist()
assert found.version() == WRITERS * EACH
assert sorted((row["writer"], row["number"]) for row in rows if row["writer"] >= 0) == [
    (writer, number) for writer in range(WRITERS) for number in range(EACH)
]
assert len(found.history()) == WRITERS * EACH + 1
found.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
