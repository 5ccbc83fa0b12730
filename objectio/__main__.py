"""`python -m objectio`: the command line."""

from __future__ import annotations

import sys

from objectio.cli.app import main

sys.exit(main())
