"""The routes as an OpenAPI 3.1 document: what a client can be made from, and a test be driven by.

Types and words come from where they are: a route says what it takes and answers, a Struct and its
docstring what the fields are. Nothing here knows an operation.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from objectio_api_admin.shapes import ARN, PREFIX, Route
from objectio_api_admin.values import ErrorAnswer

Json = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/"
_NAME: Final = "^[A-Za-z0-9_+=,.@-]{1,128}$"
_POLICY: Final = (
    "^(arn:aws:iam::(aws|[0-9]{12}):policy/([!-~]{1,510}/)?)?[A-Za-z0-9_+=,.@-]{1,128}$"
)

_INFO: Final = {
    "title": "The operators' API of ObjectIO",
    "version": "1",
    "description": "Identities, quotas, disks, nodes and the state of the store, as JSON.\n\n"
    "Requests are signed by AWS Signature Version 4 for the service `s3`, or carry a bearer token "
    "that a signed request got by `CreateToken`. Each operation says which action on which resource "
    "the identity must be allowed. Sizes are bytes, rates bytes per second, and what is not known is "
    "null. No operation takes a query string, and none a body but where it says so. An error of 503 "
    "may succeed later; `Retry-After` says when to ask again.",
    "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
}

_PARAMETERS: Final[Mapping[str, tuple[str, Json]]] = {
    "osd": (
        "The number of the disk's OSD.",
        {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    ),
    "account": ("The id of the account.", {"type": "string", "pattern": "^[0-9]{12}$"}),
    "bucket": ("The name of the bucket.", {"type": "string", "pattern": "^[a-z0-9.-]{3,63}$"}),
    "user": ("The name of the user.", {"type": "string", "pattern": _NAME}),
    "group": ("The name of the group.", {"type": "string", "pattern": _NAME}),
    "role": ("The name of the role.", {"type": "string", "pattern": _NAME}),
    "key": ("The access key.", {"type": "string", "pattern": _NAME}),
    "policy": ("The name or the ARN of the policy.", {"type": "string", "pattern": _POLICY}),
    "inline": ("The name of the inline policy.", {"type": "string", "pattern": _NAME}),
    "node": ("The name of the node.", {"type": "string", "pattern": _NAME}),
}

_ANSWERED_AS: Final = {"account": "id", "key": "access_key"}
"""The fields of answers with the names of what was made, where they are not `name`."""

_SECURITY: Final[Json] = {
    "sigv4": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "AWS Signature Version 4 for the service `s3`.",
        "x-amazon-apigateway-authtype": "awsSigv4",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that `CreateToken` made (RFC 6750).",
    },
}

_REQUEST_ID: Final = {
    "x-objectio-request-id": {
        "description": "By which the server's log names the request.",
        "schema": {"type": "string"},
    }
}
_ERRORS: Final[Mapping[int, str]] = {
    400: "It can never be done as it was said.",
    403: "The request is not signed, or wrongly, or the identity may not do that.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "It cannot be done as things are now; the message says why.",
    413: "The operation takes no body, or none of this size.",
    500: "Something went wrong; the server's log says what.",
    501: "This node does not manage that.",
    503: "It may succeed in a moment.",
    507: "There is no space left on the devices.",
}
_ALWAYS: Final = (400, 403, 413, 500, 501, 503)


def document(topics: Mapping[str, tuple[str, Sequence[Route]]]) -> Json:
    """`topics`: a sentence and the routes of each, by name."""
    routes = [route for _, table in topics.values() for route in table]
    schemas, types = _schemas(routes)
    paths: dict[str, Json] = {}
    for topic, (_, table) in topics.items():
        for route in table:
            at = paths.setdefault(_named(route.path), _parameters(route.path))
            at[route.method.lower()] = _operation(topic, route, types, _links(route, routes))
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": PREFIX}],
        "security": [{"sigv4": []}, {"bearer": []}],
        "tags": [{"name": name, "description": said} for name, (said, _) in topics.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {name: _parameter(name) for name in _PARAMETERS},
            "responses": {str(status): _failure(status) for status in _ERRORS},
            "securitySchemes": _SECURITY,
        },
    }


# Paths.


def _named(text: str) -> str:
    """`{name}` is an account or a bucket: what the segment before it says."""
    return re.sub(r"(account|bucket)(s?)/\{name\}", r"\1\2/{\1}", text)


def _parameters(path: str) -> Json:
    words = re.findall(r"\{(\w+)\}", _named(path))
    if not words:
        return {}
    return {"parameters": [{"$ref": f"#/components/parameters/{word}"} for word in words]}


def _parameter(name: str) -> Json:
    said, schema = _PARAMETERS[name]
    return {"name": name, "in": "path", "required": True, "description": said, "schema": schema}


def _operation(topic: str, route: Route, types: Mapping[int, Json], links: Json) -> Json:
    resource = ARN + _named(route.resource)
    made: Json = {
        "operationId": route.action,
        "tags": [topic],
        "summary": route.summary.partition(". ")[0].rstrip("."),
        "description": f"{route.summary}\n\nNeeds `admin:{route.action}` on `{resource}`.",
    }
    if not route.bearer:
        made["security"] = [{"sigv4": []}]
    if route.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": types[id(route.body)]}},
        }
    answer: Json = {"application/json": {"schema": types[id(route.returns)]}}
    if route.streams:
        answer = {"text/event-stream": {"schema": _event(types[id(route.returns)])}}
    made["responses"] = {
        "200": {
            "description": "A stream of events." if route.streams else "Done.",
            "headers": _REQUEST_ID,
            "content": answer,
            **({"links": links} if links else {}),
        },
        **{
            str(status): {"$ref": f"#/components/responses/{status}"} for status in _statuses(route)
        },
    }
    return made


def _links(route: Route, routes: Iterable[Route]) -> Json:
    """What can be asked about a thing that was just made, by the name that it has been given."""
    known = re.findall(r"\{(\w+)\}", _named(route.path))
    found: Json = {}
    for other in routes:
        words = re.findall(r"\{(\w+)\}", _named(other.path))
        below = _named(other.path).startswith(_named(route.path) + "/{")
        if route.method != "POST" or not below or len(words) != len(known) + 1:
            continue
        parameters = {word: f"$request.path.{word}" for word in known}
        parameters[words[-1]] = f"$response.body#/{_ANSWERED_AS.get(words[-1], 'name')}"
        found[other.action] = {"operationId": other.action, "parameters": parameters}
    return found


def _event(data: Json) -> Json:
    """One of the stream, as OpenAPI 3.2 describes them ("Sequential media types"): 3.1 has no word for
    it."""
    text = {"type": "string"}
    told = {**text, "contentMediaType": "application/json", "contentSchema": data}
    properties = {"id": text, "event": text, "data": told}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _statuses(route: Route) -> list[int]:
    found = set(_ALWAYS)
    if "{" in route.path or route.body is not None:
        found.add(404)
    if route.body is not None:
        found.add(408)
    if route.method == "POST":
        found |= {409, 507}
    return sorted(found)


def _failure(status: int) -> Json:
    headers: Json = dict(_REQUEST_ID)
    if status == 503:
        headers["retry-after"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}ErrorAnswer"}}},
    }


# Schemas.


def _schemas(routes: Sequence[Route]) -> tuple[Json, dict[int, Json]]:
    """The components, and the schema of each type that routes name, by its id."""
    taken = [route.body for route in routes if route.body is not None]
    named = [*taken, *(route.returns for route in routes), ErrorAnswer]
    kinds = list({id(kind): kind for kind in named}.values())
    found, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    types = {id(kind): schema for kind, schema in zip(kinds, found, strict=True)}
    asked = set(_reached([types[id(kind)] for kind in taken], components))
    for name, schema in components.items():
        schema.pop("title", None)
        if "description" in schema:
            schema["description"] = _words(schema["description"])
        if name not in asked and "properties" in schema:
            schema["required"] = list(schema["properties"])  # an answer leaves nothing out
    return dict(sorted(components.items())), types


def _reached(schemas: Iterable[Any], components: Mapping[str, Json]) -> set[str]:
    """The components that these refer to, and those that they refer to."""
    found: set[str] = set()
    waiting = list(schemas)
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            ref = one.get("$ref", "")
            name = ref.removeprefix(_SCHEMAS) if isinstance(ref, str) else ""
            if name in components and name not in found:
                found.add(name)
                waiting.append(components[name])
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
    return found


def _words(docstring: str) -> str:
    """As a client sees it: what is None here is null there."""
    return re.sub(r"\bNone\b", "null", " ".join(inspect.cleandoc(docstring).split()))
