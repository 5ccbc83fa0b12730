"""pyarrow: data sets in partitions, projected reads by ranges, large streams in parts, file calls."""

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from _where import ACCESS_KEY, BUCKET, CA_FILE, HOST, REGION, ROWS, SECRET_KEY, TLS, row_sum
from pyarrow import fs

more = {"tls_ca_file_path": CA_FILE} if CA_FILE else {}
s3 = fs.S3FileSystem(
    access_key=ACCESS_KEY,
    secret_key=SECRET_KEY,
    endpoint_override=HOST,
    scheme="https" if TLS else "http",
    region=REGION,
    **more,
)

table = pa.table(
    {
        "n": range(ROWS),
        "part": [f"p={number % 7}" for number in range(ROWS)],
        "text": [f"row {number}" for number in range(ROWS)],
    }
)
ds.write_dataset(table, f"{BUCKET}/set", format="parquet", partitioning=["part"], filesystem=s3)
found = ds.dataset(f"{BUCKET}/set", format="parquet", partitioning=["part"], filesystem=s3)
assert found.count_rows() == ROWS
assert len(list(found.get_fragments())) == 7
some = found.to_table(columns=["n"], filter=ds.field("part") == "p=3")
assert sum(some["n"].to_pylist()) == sum(range(3, ROWS, 7))
assert sum(found.to_table(columns=["n"])["n"].to_pylist()) == row_sum()

# A file in row groups, of which one is read.
pq.write_table(table, f"{BUCKET}/one.parquet", filesystem=s3, row_group_size=1000)
file = pq.ParquetFile(s3.open_input_file(f"{BUCKET}/one.parquet"))
assert file.num_row_groups == ROWS // 1000
assert file.read_row_group(5, columns=["n"])["n"].to_pylist() == list(range(5000, 6000))

# A stream that goes up in parts, and reads anywhere in it.
piece = bytes(range(256)) * 4096
with s3.open_output_stream(f"{BUCKET}/large") as stream:
    for _ in range(13):
        stream.write(piece)
large = s3.open_input_file(f"{BUCKET}/large")
assert large.size() == 13 * len(piece)
assert large.read_at(300, len(piece) - 44) == (piece + piece)[len(piece) - 44 :][:300]
assert large.read_at(100, large.size() - 10) == piece[-10:]

# What a file system does.
names = [info.path for info in s3.get_file_info(fs.FileSelector(f"{BUCKET}/set", recursive=True))]
assert sum(name.endswith(".parquet") for name in names) == 7
s3.copy_file(f"{BUCKET}/one.parquet", f"{BUCKET}/two.parquet")
s3.move(f"{BUCKET}/two.parquet", f"{BUCKET}/three.parquet")
kinds = s3.get_file_info([f"{BUCKET}/two.parquet", f"{BUCKET}/three.parquet", f"{BUCKET}/set"])
assert [info.type for info in kinds] == [
    fs.FileType.NotFound,
    fs.FileType.File,
    fs.FileType.Directory,
]
s3.delete_dir(f"{BUCKET}/set")
assert s3.get_file_info(f"{BUCKET}/set").type == fs.FileType.NotFound
