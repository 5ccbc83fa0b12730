"""The OpenAPI document as a page for people, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def page(document: Json) -> str:
    """Operations by topic, and then the types that they name."""
    lines = ["# " + document["info"]["title"], "", document["info"]["description"], ""]
    lines += [
        f"Everything is below `{document['servers'][0]['url']}`. The same as an OpenAPI document for",
        "programs: [admin-api.json](admin-api.json), which a server has at `/_admin/v1/openapi.json`.",
    ]
    for tag in document["tags"]:
        lines += ["", f"## {tag['name'].capitalize()}", "", tag["description"], ""]
        lines += ["| | action | takes | answers | |", "| --- | --- | --- | --- | --- |"]
        lines += _operations(document, tag["name"])
    lines += ["", "## Types", "", "Every answer has all fields of its type."]
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f"### {name}", ""]
        if "description" in schema:
            lines += [schema["description"], ""]
        lines += ["| field | type | |", "| --- | --- | --- |"]
        lines += [_field(schema, field) for field in schema.get("properties", {})]
    lines += ["", "## Errors", "", "| status | |", "| --- | --- |"]
    for status, failure in document["components"]["responses"].items():
        lines.append(f"| {status} | {failure['description']} |")
    return "\n".join(lines) + "\n"


def _operations(document: Json, tag: str) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters" or tag not in operation["tags"]:
                continue
            takes = operation.get("requestBody", {}).get("content", {})
            cells = (
                f"`{method.upper()} {path}`",
                f"`admin:{operation['operationId']}`",
                _content(takes),
                _content(operation["responses"]["200"]["content"]),
                operation["description"].partition("\n\n")[0],
            )
            yield "| " + " | ".join(cells) + " |"


def _content(content: Json) -> str:
    for kind, said in content.items():
        schema = said["schema"]
        if kind == "text/event-stream":
            return "events: " + _type(schema["properties"]["data"]["contentSchema"])
        return _type(schema)
    return ""


def _field(schema: Json, name: str) -> str:
    said = schema["properties"][name]
    needed = ""
    if name not in schema.get("required", ()):
        default = f", by default `{json.dumps(said['default'])}`" if "default" in said else ""
        needed = f"May be left out{default}. "
    text = said.get("description") or next(
        (each["description"] for each in said.get("anyOf", ()) if "description" in each), ""
    )
    return f"| `{name}` | {_type(said)} | {needed}{text} |"


def _type(schema: Json) -> str:
    """In words: "array of [User](#user)"."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'"{each}"' for each in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and "items" in schema:
        return f"array of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(kind)
