"""The operators' front end is one."""

from __future__ import annotations

import pytest
from objectio_api_admin.quotas import NewQuota
from objectio_api_admin.routes import NAME, OSD, ROUTES, NewAccount

from objectio.testing.api import FrontEndConformance, Sample

BODIES = {None: b"", NewAccount: b'{"display_name": "one"}', NewQuota: b'{"bytes_max": 1}'}


class TestAdmin(FrontEndConformance):
    @pytest.fixture
    def front_end(self, front_end):
        return front_end

    @pytest.fixture
    def samples(self):
        return [
            Sample(
                route.method,
                f"/_admin{route.path.replace(OSD, '3').replace(NAME, '123456789012')}",
                body=BODIES[route.body],
            )
            for route in ROUTES
        ]

    @pytest.fixture
    def unknown(self):
        return [
            Sample("GET", "/_admin"),
            Sample("GET", "/_admin/"),
            Sample("GET", "/_admin/v1"),
            Sample("GET", "/_admin/v1/"),
            Sample("GET", "/_admin/v2/disks"),
            Sample("GET", "/_admin/v1/disks/"),
            Sample("GET", "/_admin/v1/disks?osd=1"),
            Sample("GET", "/_admin/v1/disks/one"),
            Sample("GET", "/_admin/v1/disks/-1"),
            Sample("GET", "/_admin/v1/disks/%31"),
            Sample("GET", "/_admin/v1/disks/1234567890"),
            Sample("GET", "/_admin/v1/disks/1/replace"),
            Sample("PUT", "/_admin/v1/disks/1/replace"),
            Sample("POST", "/_admin/v1/disks/1"),
            Sample("POST", "/_admin/v1/disks/1/format"),
            Sample("POST", "/_admin/v1/disks/1/replace/now"),
            Sample("DELETE", "/_admin/v1/disks/1"),
            Sample("POST", "/_admin/v1/scrub?all"),
            Sample("HEAD", "/_admin/v1/disks"),
            Sample("GET", "/_admin//v1/disks"),
            Sample("GET", "/_admin/v1/../v1/disks"),
        ]
