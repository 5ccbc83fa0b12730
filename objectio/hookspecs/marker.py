"""The two decorators. `hookimpl` is what plugins use, as `objectio.hookimpl`."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT_NAME: Final = "objectio"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
