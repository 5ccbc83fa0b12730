"""No test of a class of holes gets lost."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
CLASSES = 16


def test_each_class_has_its_tests():
    text = (HERE / "README.md").read_text()
    rows = [line for line in text.splitlines() if "`test_" in line and line.startswith("|")]
    assert len(rows) >= CLASSES
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (HERE / file).read_text(), test
