"""s3fs mounts a bucket as a file system: what programs do to files is what is in the bucket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
pytestmark = [pytest.mark.client, pytest.mark.slow]

MOUNT_SECONDS_MAX = 15


@contextlib.contextmanager
def mounted(place, directory):
    """The bucket at `directory`, until the end. Skips where FUSE is not allowed."""
    program, unmount = shutil.which("s3fs"), shutil.which("fusermount")
    if program is None or unmount is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("s3fs or FUSE is not here: `make clients`")
    directory.mkdir()
    options = f"url={place.server.endpoint},use_path_request_style,multipart_size=5,retries=1"
    environment = place.environment | {
        "AWSACCESSKEYID": place.environment["AWS_ACCESS_KEY_ID"],
        "AWSSECRETACCESSKEY": place.environment["AWS_SECRET_ACCESS_KEY"],
    }
    command = [program, place.bucket, str(directory), "-f", "-o", options]
    with (place.home / "s3fs.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + MOUNT_SECONDS_MAX
        while not os.path.ismount(directory):
            told = (place.home / "s3fs.log").read_text(errors="replace")
            if process.poll() is not None and "fuse" in told and "permitted" in told:
                pytest.skip("FUSE is not permitted here")
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        yield directory
    finally:
        subprocess.run([unmount, "-u", "-z", str(directory)], capture_output=True)
        process.terminate()
        process.wait(20)


def test_files_are_objects_and_objects_are_files(place, s3, tmp_path):
    large = hashlib.shake_128(b"large").digest(11_000_000)
    with mounted(place, tmp_path / "mount") as root:
        (root / "a").write_bytes(b"first")
        (root / "d/e").mkdir(parents=True)
        (root / "d/e/large").write_bytes(large)
        (root / "a").rename(root / "d/b")
        with (root / "d/b").open("ab") as file:
            file.write(b" and more")
        s3.put_object(Bucket=place.bucket, Key="from-outside", Body=b"hello")
        assert (root / "from-outside").read_bytes() == b"hello"
        assert sorted(path.name for path in (root / "d").iterdir()) == ["b", "e"]
        assert s3.get_object(Bucket=place.bucket, Key="d/b")["Body"].read() == b"first and more"
        assert s3.get_object(Bucket=place.bucket, Key="d/e/large")["Body"].read() == large
        (root / "d/b").unlink()
        os.utime(root / "d/e/large", (1_000_000_000, 1_000_000_000))
        shutil.copyfile(root / "d/e/large", root / "copy")
        (root / "d/e").rename(root / "moved")
    # Mounted again, with nothing remembered.
    with mounted(place, tmp_path / "again") as root:
        assert files_of(root) == {"copy", "from-outside", "moved/large"}
        assert (root / "moved/large").stat().st_mtime == 1_000_000_000
        assert (root / "copy").read_bytes() == large


def files_of(root: Path):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
