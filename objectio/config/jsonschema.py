"""The JSON schema of the configuration, for editors and other tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from objectio.abc.driver import AnyDriver
from objectio.config.load import SECTIONS
from objectio.config.schema import DRIVER_TABLES


def json_schema(drivers: Iterable[tuple[str, AnyDriver]] = ()) -> dict[str, Any]:
    """JSON Schema 2020-12 of the file; `drivers` as (kind, driver) have their tables in it."""
    installed = list(drivers)
    structs = list(dict.fromkeys([*SECTIONS.values(), *(driver.config for _, driver in installed)]))
    references, components = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    by_struct = dict(zip(structs, references, strict=True))
    properties = {}
    for section, struct in SECTIONS.items():
        reference = by_struct[struct]
        own = components[reference["$ref"].rpartition("/")[2]]
        for kind, driver in installed:
            if DRIVER_TABLES.get(section) == kind:
                own["properties"][driver.name] = by_struct[driver.config]
        properties[section] = reference
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ObjectIO configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": components,
    }
