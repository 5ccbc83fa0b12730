"""All actions, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio_api_iam.call import Route
from objectio_api_iam.operations import groups, policies, providers, roles, sessions, users

ROUTES: Final[Mapping[str, Route]] = {
    **users.ROUTES,
    **groups.ROUTES,
    **roles.ROUTES,
    **policies.ROUTES,
    **providers.ROUTES,
    **sessions.ROUTES,
}
