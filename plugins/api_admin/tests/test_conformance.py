"""The operators' front end is one."""

from __future__ import annotations

import pytest
from objectio_api_admin import (
    accounts,
    buckets,
    groups,
    inline,
    keys,
    policies,
    quotas,
    roles,
    tokens,
    users,
)
from objectio_api_admin.routes import ROUTES

from objectio.testing.api import FrontEndConformance, Sample

POLICY = b'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
TRUST = (
    b'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, '
    b'"Action": "sts:AssumeRole"}]}'
)
BODIES = {
    None: b"",
    accounts.NewAccount: b'{"display_name": "one", "id": "123456789012"}',
    quotas.NewQuota: b'{"bytes_max": 1}',
    users.NewUser: b'{"name": "ann@home"}',
    users.ChangedUser: b'{"path": "/staff/"}',
    groups.ChangedGroup: b'{"path": "/staff/"}',
    keys.NewKey: b'{"access_key": "AKEY"}',
    groups.NewGroup: b'{"name": "readers"}',
    policies.NewPolicy: b'{"name": "own", "document": ' + POLICY + b"}",
    policies.Simulation: b'{"actions": ["s3:GetObject"], "resources": ["*"], "user": "ann@home"}',
    roles.NewRole: b'{"name": "worker", "trust_policy": ' + TRUST + b"}",
    roles.ChangedRole: b'{"description": "works"}',
    inline.InlineDocument: b'{"document": ' + POLICY + b"}",
    tokens.NewToken: b'{"seconds": 60}',
    buckets.NewBucket: b'{"name": "123456789012"}',
}


class TestAdmin(FrontEndConformance):
    @pytest.fixture
    def front_end(self, front_end):
        return front_end

    @pytest.fixture
    def samples(self, path_of):
        return [
            Sample(
                route.method,
                path_of(route),
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
            Sample("GET", "/_admin/v1/accounts/000000000000/users/"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/%2F"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/%"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/%ff"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/a*"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/a%00"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users/ann/key"),
            Sample("GET", "/_admin/v1/accounts/000000000000/users?all"),
            Sample("DELETE", "/_admin/v1/accounts/000000000000/users/ann"),
            Sample(
                "GET", "/_admin/v1/accounts/000000000000/policies/arn:aws:iam::aws:policy/readonly"
            ),
            Sample("GET", "/_admin/v1/buckets//quota"),
        ]
