"""A plugin whose import fails, as when its library is not installed."""

from __future__ import annotations

raise ImportError("libbroken.so.1: cannot open shared object file")
