"""A `Context` as a node would give to a driver, over a temporary directory."""

from __future__ import annotations

import logging
from pathlib import Path

from objectio.abc.context import Context


def make_context(tmp_path: Path, name: str = "test") -> Context:
    """A context whose data directory is `tmp_path`/`name`, made here; metrics count nothing."""
    data_dir = tmp_path / name
    data_dir.mkdir(parents=True, exist_ok=True)
    return Context(name=name, data_dir=data_dir, log=logging.getLogger(f"objectio.{name}"))
