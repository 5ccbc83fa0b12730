"""restic and rclone keep backups here: they come back whole, are found again, and are thinned out."""

from __future__ import annotations

import hashlib
import os

import pytest

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
pytestmark = [pytest.mark.client, pytest.mark.slow]

FILES = {"a": 10, "sub/b": 100_000, "sub/deeper/large": 9_000_000, "grüße": 3, "empty": 0}


def content(name, size, salt=""):
    return hashlib.shake_128(f"{name}{salt}".encode()).digest(size)


def make_files(directory, salt=""):
    for name, size in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, size, salt))
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return directory


def read_files(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


class TestRestic:
    @pytest.fixture
    def restic(self, place):
        env = {
            "RESTIC_REPOSITORY": f"s3:{place.server.endpoint}/{place.bucket}/repository",
            "RESTIC_PASSWORD": "a password",
            "RESTIC_CACHE_DIR": str(place.home / "cache"),
        }

        def run(*arguments, **more):
            return place.run("restic", "-q", *arguments, env=env, **more)

        run("init")
        return run

    def test_a_backup_comes_back(self, restic, tmp_path):
        files = make_files(tmp_path / "files")
        restic("backup", ".", cwd=files)
        make_files(files, salt="changed")
        restic("backup", ".", cwd=files)
        restic("check", "--read-data")
        restic("restore", "latest", "--target", tmp_path / "new")
        assert read_files(tmp_path / "new") == read_files(files)
        # The first one is still there, until it is forgotten.
        snapshots = restic("snapshots", "--compact").decode()
        assert "2 snapshots" in snapshots
        restic("forget", "--keep-last", "1", "--prune")
        assert "1 snapshots" in restic("snapshots", "--compact").decode()
        restic("check", "--read-data")

    def test_what_was_pruned_is_gone_from_the_bucket(self, restic, place, s3, tmp_path):
        files = make_files(tmp_path / "files")
        restic("backup", ".", cwd=files)
        kept = bytes_in(s3, place.bucket)
        for path in files.rglob("*"):
            if path.is_file():
                path.write_bytes(content(path.name, 10, "small"))
        restic("backup", ".", cwd=files)
        restic("forget", "--keep-last", "1", "--prune")
        assert bytes_in(s3, place.bucket) < kept / 100


def bytes_in(s3, bucket):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sum(item["Size"] for page in pages for item in page.get("Contents", ()))


class TestRclone:
    @pytest.fixture
    def rclone(self, place):
        access_key, secret_key = place.server.credentials
        env = {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENDPOINT": place.server.endpoint,
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": access_key,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": secret_key,
            "RCLONE_S3_UPLOAD_CUTOFF": "5M",
            "RCLONE_S3_CHUNK_SIZE": "5M",
            "RCLONE_RETRIES": "1",
        }
        return lambda *arguments, **more: place.run("rclone", *arguments, env=env, **more)

    def test_a_copy_is_checked_copied_on_and_moved_in_the_server(self, rclone, place, tmp_path):
        files, bucket = make_files(tmp_path / "files"), place.bucket
        rclone("copy", files, f"store:{bucket}/one")
        rclone("check", files, f"store:{bucket}/one", "--download")
        rclone("copy", f"store:{bucket}/one", f"store:{bucket}/two")
        rclone("check", f"store:{bucket}/one", f"store:{bucket}/two")
        rclone("moveto", f"store:{bucket}/two/a", f"store:{bucket}/two/c")
        assert set(rclone("lsf", f"store:{bucket}/two").decode().split()) == {
            "c", "sub/", "grüße", "empty",
        }  # fmt: skip
        # Times of files are kept: a second copy has nothing to do.
        told = rclone("copy", files, f"store:{bucket}/one", "-v", "--stats-one-line", "--dry-run")
        assert b"Skipped copy" not in told
        rclone("purge", f"store:{bucket}/two")
        assert rclone("lsf", f"store:{bucket}").decode().split() == ["one/"]

    def test_old_versions_are_seen_and_cleaned_up(self, rclone, place, s3, tmp_path):
        enabled = {"Status": "Enabled"}
        s3.put_bucket_versioning(Bucket=place.bucket, VersioningConfiguration=enabled)
        for salt in ("", "two", "three"):
            rclone("copy", make_files(tmp_path / "files", salt), f"store:{place.bucket}", "-I")
        seen = rclone("lsf", "--s3-versions", f"store:{place.bucket}").decode().split("\n")
        assert sum(name.startswith("a") for name in seen) == 3
        rclone("backend", "cleanup-hidden", f"store:{place.bucket}")
        seen = rclone("lsf", "--s3-versions", f"store:{place.bucket}").decode().split("\n")
        assert sum(name.startswith("a") for name in seen) == 1
