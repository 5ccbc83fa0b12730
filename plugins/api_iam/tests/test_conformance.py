"""The front end is one."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from objectio_api_iam.config import IamConfig
from objectio_api_iam.frontend import IamFactory
from objectio_api_iam.routes import ROUTES

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import FrontEndConformance, Sample
from objectio.testing.identities import memory_identities

FORM = {"content-type": "application/x-www-form-urlencoded"}


class TestIam(FrontEndConformance):
    @pytest.fixture
    def front_end(self, objects):
        context = ApiContext(
            objects=objects, metrics=NullMetrics(), identities=memory_identities().identities
        )
        return IamFactory(IamConfig()).build(context)

    @pytest.fixture
    def samples(self):
        return [
            Sample("POST", "/", FORM, urlencode({"Action": action}).encode(), public=True)
            for action in ROUTES
        ]

    @pytest.fixture
    def unknown(self):
        return [
            Sample("GET", "/?Action=ListUsers"),
            Sample("PUT", "/", FORM, b"Action=ListUsers"),
            Sample("POST", "/iam", FORM, b"Action=ListUsers"),
            Sample("POST", "//", FORM, b"Action=ListUsers"),
        ]
