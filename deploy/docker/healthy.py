#!/usr/bin/env python3
"""Ends with 0 if the process at this port of this container says that it can do its work."""

from __future__ import annotations

import sys
import urllib.request

try:
    with urllib.request.urlopen(f"http://127.0.0.1:{int(sys.argv[1])}/health", timeout=3):
        pass
except OSError as error:
    sys.exit(str(error))
