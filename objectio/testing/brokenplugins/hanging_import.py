"""A plugin whose import does not end."""

from __future__ import annotations

from objectio.testing.brokenplugins import release

release.wait()
raise ImportError("released")  # so that the module is not kept, and hangs again in the next test
