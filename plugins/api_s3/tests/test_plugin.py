"""The driver: found without its libraries, opened with them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import objectio_api_s3.plugin as plugin
from objectio_api_s3.config import S3Config
from objectio_api_s3.router import OPERATIONS

from objectio.testing.context import make_context


def test_driver(tmp_path):
    (driver,) = plugin.objectio_register_apis()
    assert driver.name == "s3"
    assert driver.config is S3Config
    assert driver.open(S3Config(), make_context(tmp_path)).build


def test_discovery_imports_no_c_library():
    script = (
        "import sys, objectio_api_s3.plugin as p; p.objectio_register_apis();"
        "print([m for m in ('awscrt', 'defusedxml') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_a_missing_library_is_named():
    script = (
        "import sys; sys.modules['awscrt'] = None\n"
        "import objectio_api_s3.plugin as p\n"
        "from objectio.errors import DriverUnavailable\n"
        "(driver,) = p.objectio_register_apis()\n"
        "try: driver.open(driver.config(), None)\n"
        "except DriverUnavailable as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "awscrt" in found.stdout, found.stderr


def test_the_readme_names_every_operation():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = readme.split("## Operations")[1].split("\n\n")[1]
    assert set(re.findall(r"`(\w+)`", table)) == OPERATIONS
