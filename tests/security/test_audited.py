"""Which operations of all front ends are in the audit log: whatever is added is, until it says otherwise."""

from __future__ import annotations

import pytest

from objectio.gateway.audit import kind_of

READS = ("GET", "HEAD")
DATA = {
    *("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
    *("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    *("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
    "s3:PutObjectRetention",
}
HANDLED = {"s3:PutObjectLegalHold"}
"""The handler says so, for it knows whether a hold ends."""


def test_all_of_s3_but_the_data_of_objects():
    router = pytest.importorskip("objectio_api_s3.router", reason="api_s3 is not installed")
    rows = {key: spec for key, spec in router._TABLE.items() if key[0] not in READS}
    actions = {
        action: spec
        for spec in rows.values()
        for action in (spec.action, spec.version_action)
        if action
    }
    assert len(actions) > 30
    assert {action for action in actions if not kind_of(action)} == DATA
    for action in actions.keys() - DATA - HANDLED:
        # The gate knows what it is before the handler is called, so its line is there before.
        assert not actions[action].public, action
        assert not actions[action].late, action


def test_all_of_iam_but_reading():
    routes = pytest.importorskip("objectio_api_iam.routes", reason="api_iam is not installed")
    for action, route in routes.ROUTES.items():
        kind = kind_of(f"{route.service}:{action}")
        if route.service == "sts":
            expected = "" if action == "GetCallerIdentity" else "credentials"
        else:
            expected = "" if action.startswith(("Get", "List", "Simulate")) else "change"
        assert kind == expected, action
    # The front end is asked by POST, and learns from the body which it is.
    assert kind_of("iam:Request") == kind_of("sts:Request") == "change"


def test_all_of_the_operators_api_but_reading():
    routes = pytest.importorskip("objectio_api_admin.routes", reason="api_admin is not installed")
    unseen = {
        route.action
        for route in routes.ROUTES
        if route.method not in READS and not kind_of(f"admin:{route.action}")
    }
    assert unseen == {"SimulatePolicy"}
