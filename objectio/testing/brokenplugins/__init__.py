"""Plugins that are wrong, one way each, and a way to have them found without installing anything.

    install(directory, "broken-kv-raises", {"kv_raises": "objectio.testing.brokenplugins.raises"})
    load_plugins(search=[str(directory)])

The ones that hang wait for `release`; set it at the end of a test so that their threads end.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

release: Final = threading.Event()


def install(
    directory: Path,
    distribution: str,
    entry_points: Mapping[str, str],
    *,
    version: str = "1.0",
    group: str = "objectio.plugins",
) -> None:
    """Write the metadata of a distribution with these entry points."""
    info = directory / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    lines = [f"{name} = {module}\n" for name, module in entry_points.items()]
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
