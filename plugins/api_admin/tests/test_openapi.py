"""The OpenAPI document is true: schemathesis asks a real server what no test thought of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
from objectio_api_admin.routes import ROUTES, openapi_document

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def operations():
    """By operation id: the path, the method and what is said of it."""
    return {
        operation["operationId"]: (path, method, operation)
        for path, methods in openapi_document()["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    }


def test_every_route_is_there(operations):
    assert set(operations) == {route.action for route in ROUTES}
    for route in ROUTES:
        path, method, operation = operations[route.action]
        assert method == route.method.lower()
        assert re.sub(r"\{\w+\}", "", path) == re.sub(r"\{\w+\}", "", route.path)
        assert ("requestBody" in operation) == (route.body is not None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.action)
def test_every_route_says_what_it_does_and_answers(route, operations):
    assert route.summary.endswith(".")
    assert route.summary[0].isupper()
    assert route.returns is not None
    said = operations[route.action][2]
    assert f"`admin:{route.action}`" in said["description"]
    (schema,) = said["responses"]["200"]["content"].values()
    assert schema["schema"]


def test_names_in_the_document_are_unique_and_plain():
    document = openapi_document()
    assert all(re.fullmatch(r"\w+", name) for name in document["components"]["schemas"])
    assert {tag["name"] for tag in document["tags"]} == {
        tag
        for methods in document["paths"].values()
        for method, operation in methods.items()
        if method != "parameters"
        for tag in operation["tags"]
    }


def test_every_reference_leads_somewhere():
    document = openapi_document()

    def references(one):
        if isinstance(one, dict):
            if "$ref" in one:
                yield one["$ref"]
            one = list(one.values())
        for each in one if isinstance(one, list | tuple) else ():
            yield from references(each)

    found = set(references(document))
    assert found
    for ref in found:
        at = document
        for word in ref.removeprefix("#/").split("/"):
            at = at[word]


def test_every_schema_is_one():
    document = openapi_document()
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.validator_for({"components": document["components"], **schema})
        properties = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(properties), name


def test_an_answer_leaves_nothing_out():
    """Fields that have a default where they are made are there all the same."""
    schemas = openapi_document()["components"]["schemas"]
    assert "cache_hits" in schemas["DiskStatus"]["required"]
    assert schemas["NewUser"]["required"] == ["name"]


def test_who_cannot_use_a_bearer_token_is_told(operations):
    for route in ROUTES:
        ways = operations[route.action][2].get("security", openapi_document()["security"])
        assert ({"bearer": []} in ways) == route.bearer


def test_what_is_made_leads_to_what_can_be_asked_about_it(operations):
    links = operations["CreateAccessKey"][2]["responses"]["200"]["links"]
    assert set(links) == {"EnableAccessKey", "DisableAccessKey", "DeleteAccessKey"}
    assert links["EnableAccessKey"]["parameters"] == {
        "account": "$request.path.account",
        "user": "$request.path.user",
        "key": "$response.body#/access_key",
    }
    assert "links" not in operations["ListUsers"][2]["responses"]["200"]


async def test_the_document_is_served(ask):
    assert await ask("GET", "/v1/openapi.json") == (200, json.loads(json.dumps(openapi_document())))


# Against a real server.


@pytest.fixture
def bearer(server):
    path = "/_admin/v1/tokens"
    status, body = server.ask("POST", path, server.credentials, b'{"seconds": 900}')
    assert status == 200
    return json.loads(body)["token"]


def drive(server, bearer, *options, seconds):
    host, port = server.address
    found = subprocess.run(
        [
            SCHEMATHESIS,
            f"--config-file={CONFIG}",
            "run",
            f"http://{host}:{port}/_admin/v1/openapi.json",
            f"--header=Authorization: Bearer {bearer}",
            "--no-color",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=server.data_dir.parent,
    )
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
    assert "Traceback" not in server.log_path.read_text()
    return found.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return int(found[1])


def test_schemathesis_finds_nothing(server, bearer):
    options = ("--phases=coverage", "--generation-deterministic")
    said = drive(server, bearer, *options, seconds=120)
    assert number(r"Tested: (\d+)", said) == len(ROUTES) - 1  # one serves the document itself


def test_schemathesis_finds_nothing_after_what_was_made(server, bearer):
    options = ("--phases=stateful", "--max-examples=20", "--generation-deterministic")
    said = drive(server, bearer, *options, seconds=120)
    assert number(r"API Links: +(\d+) covered", said) > 0


@pytest.mark.slow
def test_schemathesis_finds_nothing_for_long(server, bearer):
    """Each time something else, of which there is little where names of several kinds must fit."""
    options = ("--max-examples=40", "--generation-database=none")
    options += ("--suppress-health-check=filter_too_much",)
    drive(server, bearer, *options, seconds=280)
