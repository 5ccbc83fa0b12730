#!/usr/bin/env python3
"""Ends with 0 if the process at this port of this container says that it can do its work."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import sys

PORT, SECONDS_MAX = int(sys.argv[1]), 1.5
unverified = ssl.create_default_context()  # it is asked by an address that no certificate has
unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE

said: object = "no answer"
for connection in (
    http.client.HTTPConnection("127.0.0.1", PORT, timeout=SECONDS_MAX),
    http.client.HTTPSConnection("127.0.0.1", PORT, timeout=SECONDS_MAX, context=unverified),
):
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health/ready")
            said = connection.getresponse().status
        except ConnectionRefusedError as error:
            sys.exit(str(error))
        except (OSError, http.client.HTTPException):
            continue  # it may talk TLS
        sys.exit(0 if said == 200 else f"not ready: {said}")
sys.exit(str(said))
