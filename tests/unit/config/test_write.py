"""Writing: what is written loads again as the same configuration."""

from __future__ import annotations

import json
import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.abc.driver import Driver
from objectio.config import Config, dump_toml, load_config
from objectio.config.fields import fields_of
from objectio.config.jsonschema import json_schema
from objectio.config.load import SECTIONS
from objectio.config.schema import DiskSection, GatewaySection, OsdSection
from objectio.config.write import sample_toml, toml_value


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of an engine."""

    cache_bytes: int = 4096
    path: str | None = None


DRIVERS = [
    ("kv", Driver(name="engine", config=EngineConfig, open=lambda config, context: None)),
]


def load(tmp_path, text):
    path = tmp_path / "objectio.toml"
    path.write_text(text)
    return msgspec.structs.replace(load_config(path, env={}), source=None)


def test_a_written_configuration_loads_as_the_same(tmp_path):
    config = Config(
        gateway=GatewaySection(listen="[::1]:0", apis=("s3",), auth=False),
        osd=OsdSection(disk=(DiskSection(id=1, path='a "b"\\\x7f'), DiskSection(id=2, path="é"))),
        driver_tables={"kv": {"engine": {"cache_bytes": 1}}, "osd": {"log": {"x y": [1, 2.5]}}},
    )
    assert load(tmp_path, dump_toml(config)) == config
    assert load(tmp_path, dump_toml(Config())) == Config()


def test_every_key_is_written_with_its_meaning():
    text = dump_toml(Config())
    for section, struct in SECTIONS.items():
        for field in fields_of(struct):
            assert field.description, f"{section}.{field.name} has no description"
            assert field.name in text or field.name == "disk"


def test_the_sample_changes_nothing_until_it_is_edited(tmp_path):
    sample = sample_toml(DRIVERS)
    assert load(tmp_path, sample) == Config()
    assert "#cache_bytes = 4096" in sample


def test_the_sample_without_its_comment_signs_is_the_defaults(tmp_path):
    lines = sample_toml().splitlines()
    text = "\n".join(line.removeprefix("#") if line[1:2] != " " else line for line in lines)
    disk_keys = [f"{field.name} = " for field in fields_of(DiskSection)]
    kept = [line for line in text.splitlines() if not line.startswith(tuple(disk_keys))]
    assert load(tmp_path, "\n".join(kept)) == Config()
    sections = [struct for struct in SECTIONS.values() if "listen" in struct.__struct_fields__]
    assert sum(line.startswith("listen = ") for line in kept) == len(sections) == 4


def test_the_schema_is_json_and_holds_tables_of_drivers():
    schema = json.loads(json.dumps(json_schema(DRIVERS)))
    assert list(schema["properties"]) == list(SECTIONS)
    kv = schema["$defs"]["KvSection"]
    assert kv["properties"]["engine"] == {"$ref": "#/$defs/EngineConfig"}
    assert kv["additionalProperties"] is False
    assert "cache_bytes" in schema["$defs"]["EngineConfig"]["properties"]


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_values_are_written_as_toml_reads_them(value):
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


@pytest.mark.parametrize("struct", [*SECTIONS.values(), DiskSection])
def test_sections_are_frozen_and_described(struct):
    assert struct.__struct_config__.frozen
    assert struct.__struct_config__.forbid_unknown_fields
    assert struct.__doc__
