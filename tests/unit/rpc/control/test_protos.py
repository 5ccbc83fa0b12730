"""What is committed is what the .proto files say, and what our own values have."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import betterproto2
import msgspec
import pytest

from objectio.abc import admin as admin_values
from objectio.abc import cluster as cluster_values
from objectio.errors import RemoteProtocolError
from objectio.model import cluster as model
from objectio.rpc.control import convert
from objectio.rpc.control.descriptors import descriptor_set, files, methods
from objectio.rpc.control.pb import messages, reflection

ROOT = Path(__file__).resolve().parents[4]
MODULES = {"objectio.v1": messages, "grpc.reflection.v1": reflection}

descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")


@pytest.fixture(scope="module")
def protos():
    """The tool of `make proto`."""
    pytest.importorskip("grpc_tools")
    pytest.importorskip("betterproto2_compiler")
    spec = importlib.util.spec_from_file_location("protos", ROOT / "tests/repo/protos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described():
    return descriptor_pb2.FileDescriptorSet.FromString(descriptor_set())


def test_what_is_committed_is_what_the_compiler_makes(protos):
    for file, text in protos.generate().items():
        assert (protos.TARGET / file).read_text() == text, f"{file}: run make proto"
    assert {path.name for path in protos.TARGET.glob("*.py")} == set(protos.generate())


def test_every_proto_file_is_described(protos):
    sources = {str(path.relative_to(protos.SOURCES)) for path in protos.SOURCES.rglob("*.proto")}
    assert {file.name for file in described().file} == sources == {file.name for file in files()}


KINDS = {
    1: "double",
    4: "uint64",
    5: "int32",
    8: "bool",
    9: "string",
    11: "message",
    12: "bytes",
    13: "uint32",
}


def all_messages():
    return [
        pytest.param(file.package, message, id=message.name)
        for file in described().file
        for message in file.message_type
    ]


@pytest.mark.parametrize(("package", "message"), all_messages())
def test_messages_have_the_fields_of_the_description(package, message):
    kind = getattr(MODULES[package], message.name)
    fields = {
        meta.number: (name, meta) for name, meta in kind._betterproto.meta_by_field_name.items()
    }
    assert set(fields) == {field.number for field in message.field}
    maps = {each.name: each for each in message.nested_type}
    for field in message.field:
        name, meta = fields[field.number]
        assert name == (field.name if field.name != "in" else "in_")
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            assert meta.proto_type == "map"
            assert meta.map_meta[0].proto_type == KINDS[entry.field[0].type]
            assert meta.map_meta[1].proto_type == KINDS[entry.field[1].type]
            continue
        assert meta.proto_type == KINDS[field.type]
        assert bool(meta.repeated) == (field.label == field.LABEL_REPEATED)
        if field.type == field.TYPE_MESSAGE:
            hint = kind._type_hints()[name]
            wanted = getattr(MODULES[package], field.type_name.rpartition(".")[2])
            assert wanted in ([hint, *getattr(hint, "__args__", ())])
        else:
            alone = field.HasField("oneof_index") and not field.proto3_optional
            assert bool(meta.optional) == bool(field.proto3_optional or alone)


def test_there_are_no_further_messages():
    wanted = {
        (file.package, message.name) for file in described().file for message in file.message_type
    }
    found = {
        (package, name)
        for package, module in MODULES.items()
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, betterproto2.Message)
    }
    assert found == wanted


def test_names_are_read_from_the_description_as_a_library_reads_them():
    wanted = {}
    for file in described().file:
        for service in file.service:
            for method in service.method:
                path = f"/{file.package}.{service.name}/{method.name}"
                wanted[path] = (
                    method.input_type[1:],
                    method.output_type[1:],
                    method.server_streaming,
                )
    assert {path: tuple(each[1:]) for path, each in methods().items()} == wanted
    for file, read in zip(described().file, files(), strict=True):
        assert descriptor_pb2.FileDescriptorProto.FromString(read.raw) == file
        symbols = {f"{file.package}.{each.name}" for each in (*file.message_type, *file.service)}
        assert symbols <= read.symbols


def test_the_description_can_be_written_to_a_file():
    program = [sys.executable, "-m", "objectio.rpc.control.descriptors"]
    assert subprocess.run(program, check=True, capture_output=True).stdout == descriptor_set()


# Our values.

PAIRS = [
    (value, getattr(messages, value.__name__))
    for module in (admin_values, cluster_values, model)
    for value in vars(module).values()
    if isinstance(value, type)
    and issubclass(value, msgspec.Struct)
    and value.__module__ == module.__name__
    and value.__name__[0] != "_"
    and value is not model.PlacementRule
]


@pytest.mark.parametrize(("value", "message"), PAIRS, ids=lambda each: each.__name__)
def test_values_and_messages_have_the_same_fields(value, message):
    ours = {field.name for field in msgspec.structs.fields(value)}
    assert {field.name for field in dataclasses.fields(message)} == ours


def example(hint, depth=0):
    """A value that differs from every default."""
    hint = msgspec.inspect.type_info(hint) if depth == 0 else hint
    info = msgspec.inspect
    if isinstance(hint, info.StructType):
        return hint.cls(**{field.name: example(field.type, depth + 1) for field in hint.fields})
    if isinstance(hint, info.UnionType):
        return example(next(each for each in hint.types if type(each) is not info.NoneType), 1)
    if isinstance(hint, info.VarTupleType):
        return (example(hint.item_type, 1), example(hint.item_type, 1))
    if isinstance(hint, info.CollectionType | info.ListType):
        return [example(hint.item_type, 1), example(hint.item_type, 1)]
    if isinstance(hint, info.DictType):
        return {example(hint.key_type, 1): example(hint.value_type, 1)}
    if isinstance(hint, info.LiteralType):
        return hint.values[-1]
    return {
        info.IntType: 7,
        info.FloatType: 2.5,
        info.StrType: "wört",
        info.BoolType: False,
    }[type(hint)]


@pytest.mark.parametrize(("value", "message"), PAIRS, ids=lambda each: each.__name__)
def test_values_come_back_as_they_went(value, message):
    one = example(value)
    encoded = bytes(convert.to_message(one, message))
    assert convert.to_value(convert.parse(message, encoded), value) == one


def test_what_our_values_may_not_be_is_refused():
    message = messages.ClusterStatus("c", 1, "unknown", "", "", [])
    with pytest.raises(RemoteProtocolError):
        convert.to_value(message, cluster_values.ClusterStatus)


def test_a_disk_without_a_number_is_not_disk_0():
    for osd in (None, 0):
        offer = cluster_values.DiskOffer(path="/a", osd=osd)
        raw = bytes(convert.to_message(offer, messages.DiskOffer))
        assert convert.to_value(messages.DiskOffer.parse(raw), cluster_values.DiskOffer) == offer
