"""The `pytest11` module: makes a failing conformance test show its values; imports nothing else."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("objectio.testing")
