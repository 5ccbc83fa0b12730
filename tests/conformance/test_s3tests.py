"""A sample of the public suite, where there is a checkout of it: OBJECTIO_S3TESTS names the directory,
and OBJECTIO_S3TESTS_PYTHON a Python with its requirements."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = os.environ.get("OBJECTIO_S3TESTS", "")
PYTHON = os.environ.get("OBJECTIO_S3TESTS_PYTHON", "")
SAMPLE = (
    "test_bucket_list_delimiter_prefix",
    "test_bucket_listv2_continuationtoken",
    "test_versioning_multi_object_delete",
    "test_multipart_upload",
    "test_object_write_read_update_read_delete",
    "test_bucket_policy",
    "test_object_lock_put_obj_retention",
    "test_set_cors",
    "test_put_object_ifmatch_good",
    "test_post_object_authenticated_request",
)

pytestmark = [
    pytest.mark.client,
    pytest.mark.skipif(not CHECKOUT, reason="OBJECTIO_S3TESTS names no checkout of ceph/s3-tests"),
    pytest.mark.timeout(3600),
]


def run(tmp_path, *arguments):
    command = [sys.executable, "-m", "tests.conformance.s3tests", CHECKOUT, "--work", str(tmp_path)]
    command += ["--python", PYTHON] if PYTHON else []
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_sample(tmp_path):
    told = run(tmp_path, *SAMPLE)
    assert f"{len(SAMPLE)} of {len(SAMPLE)} functions passed" in told


@pytest.mark.slow
def test_all_that_is_expected_to_pass(tmp_path):
    assert "0 regresses" in run(tmp_path, "-n", "4")
