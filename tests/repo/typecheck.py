"""`make types`: mypy --strict over the kernel and every plugin package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    packages = ["objectio"]
    for project in sorted(ROOT.glob("plugins/*/")):
        packages += [init.parent.name for init in sorted(project.glob("objectio_*/__init__.py"))]
    flags = [flag for package in packages for flag in ("-p", package)]
    return subprocess.run([sys.executable, "-m", "mypy", "--strict", *flags], cwd=ROOT).returncode


if __name__ == "__main__":
    raise SystemExit(main())
