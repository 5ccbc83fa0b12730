"""What a driver is given when it is opened: where it may write, how to log and count.

A context holds no global state; tests build one by hand (`objectio.testing.context`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from objectio.abc.metrics import Metrics, NullMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """`data_dir` is where the driver may keep files. It is the driver's own, but that of key managers is
    the node's. For key-value engines, shard stores and key managers it is there before `open` is called;
    others make it when they need it."""

    name: str
    data_dir: Path
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("objectio"))
    metrics: Metrics = field(default_factory=NullMetrics)
