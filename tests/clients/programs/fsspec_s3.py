"""fsspec's s3fs: files, directories, streams in parts, versions."""

import s3fs
from _where import ACCESS_KEY, BUCKET, CA_FILE, ENDPOINT, SECRET_KEY

where = {"endpoint_url": ENDPOINT, **({"verify": CA_FILE} if CA_FILE else {})}
files = s3fs.S3FileSystem(key=ACCESS_KEY, secret=SECRET_KEY, client_kwargs=where)
files.pipe({f"{BUCKET}/d/{n}": b"x" * n for n in range(1, 30)})
assert sorted(files.ls(f"{BUCKET}/d", detail=False)) == sorted(
    f"{BUCKET}/d/{n}" for n in range(1, 30)
)
assert files.du(f"{BUCKET}/d") == sum(range(1, 30))
assert files.cat(f"{BUCKET}/d/7") == b"x" * 7
assert files.info(f"{BUCKET}/d/9")["size"] == 9
assert files.isdir(f"{BUCKET}/d")
assert not files.exists(f"{BUCKET}/nothing")

piece = bytes(range(256)) * 4096
with files.open(f"{BUCKET}/large", "wb", block_size=5 * 2**20) as stream:
    for _ in range(12):
        stream.write(piece)
with files.open(f"{BUCKET}/large", "rb") as stream:
    stream.seek(11 * len(piece) + 5)
    assert stream.read(100) == piece[5:105]
assert files.cat_file(f"{BUCKET}/large", start=-3) == piece[-3:]
with files.open(f"{BUCKET}/note", "w") as stream:
    stream.write("grüße")
assert files.cat(f"{BUCKET}/note").decode() == "grüße"

files.copy(f"{BUCKET}/large", f"{BUCKET}/copied")
assert files.checksum(f"{BUCKET}/copied") != 0
assert files.info(f"{BUCKET}/copied")["size"] == 12 * len(piece)
files.mv(f"{BUCKET}/note", f"{BUCKET}/moved")
assert files.exists(f"{BUCKET}/moved")
assert not files.exists(f"{BUCKET}/note")
files.setxattr(f"{BUCKET}/moved", colour="blue")
assert files.getxattr(f"{BUCKET}/moved", "colour") == "blue"
files.rm(f"{BUCKET}/d", recursive=True)
assert not files.exists(f"{BUCKET}/d")
