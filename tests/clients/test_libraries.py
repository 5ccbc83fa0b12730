"""Python libraries that bring an S3 client of their own, run as programs: see programs/."""

from __future__ import annotations

import pytest

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
pytestmark = pytest.mark.client

QUICK = ("fsspec_s3.py", "delta.py")
OTHERS = ("arrow.py", "duck.py", "frames.py", "versions.py")
PROGRAMS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_library_finds_what_it_wrote(place, program):
    place.run_python(program)
