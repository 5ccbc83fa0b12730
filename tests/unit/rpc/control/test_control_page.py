"""docs/howto/control-plane.md, with clients that are not ours: grpcio and its reflection."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path

import betterproto2
import pytest
from grpclib.const import Cardinality

from objectio.rpc.control.descriptors import files
from objectio.rpc.control.pb.reflection import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

PAGE = Path(__file__).resolve().parents[4] / "docs/howto/control-plane.md"
VERSIONS = ("v1", "v1alpha")


async def run(program, *arguments):
    """(status, stdout, stderr) of a program of its own process: grpcio has threads."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
def program():
    pytest.importorskip("grpc_reflection")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return code


async def test_the_program_of_the_page(harness, program):
    root = harness.root
    status, out, err = await run(program, harness.address, root.access_key, root.secret_key)
    assert (status, err) == (0, "")
    report, _, disks = out.partition("}\n3 ")
    status = json.loads(report + "}")
    assert status["state"] == "serving"
    assert status["nodes"][0]["osds"][0]["reason"] == "no room"
    assert disks.startswith("/disks/3 up")
    assert harness.refused == {}


async def test_the_program_with_a_wrong_key_is_refused(harness, program):
    status, _, err = await run(program, harness.address, harness.root.access_key, "wrong")
    assert status == 1
    assert "StatusCode.UNAUTHENTICATED" in err
    assert harness.refused == {"proof": 1}


WATCHING = """
watched = Cluster(*sys.argv[1:4]).watch()
print(next(watched).epoch, flush=True)
print(next(watched).epoch, flush=True)
"""


async def test_watching_with_the_program(harness, program):
    program = program.partition('if __name__ == "__main__"')[0] + WATCHING
    root = harness.root
    running = asyncio.create_task(run(program, harness.address, root.access_key, root.secret_key))
    while not running.done():
        await asyncio.sleep(0.05)
        harness.plane.change()
    status, out, err = running.result()
    assert (status, err) == (0, "")
    first, second = map(int, out.split())
    assert second > first >= 4


def test_the_page_names_what_there_is():
    text = PAGE.read_text()
    assert "objectio_control_refused_total" in text
    for name in re.findall(r"objectio\.v1\.(\w+)", text):
        assert any(f"objectio.v1.{name}" in file.services for file in files())


# Reflection.


@pytest.fixture
async def reflect(raw):
    connection = raw()

    async def ask(*requests, version="v1"):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        answers = []
        async with connection.channel.request(
            path, Cardinality.STREAM_STREAM, bytes, bytes
        ) as stream:
            for request in requests:
                await stream.send_message(bytes(request))
                answers.append(ServerReflectionResponse.parse(await stream.recv_message()))
            await stream.end()
            assert await stream.recv_message() is None
        return answers

    return ask


@pytest.mark.parametrize("version", VERSIONS)
async def test_services_are_listed(reflect, version):
    [answer] = await reflect(ServerReflectionRequest(list_services=""), version=version)
    assert [each.name for each in answer.list_services_response.service] == [
        "grpc.reflection.v1.ServerReflection",
        "objectio.v1.Access",
        "objectio.v1.Admin",
        "objectio.v1.Cluster",
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_files_are_given_by_name_and_by_what_they_define(reflect, version):
    cluster = next(file for file in files() if file.name.endswith("cluster.proto"))
    asked = [
        ServerReflectionRequest(file_by_filename=cluster.name),
        *(ServerReflectionRequest(file_containing_symbol=name) for name in cluster.symbols),
    ]
    assert "objectio.v1.Cluster.Status" in cluster.symbols
    for request, answer in zip(asked, await reflect(*asked, version=version), strict=True):
        assert answer.original_request == request
        assert answer.file_descriptor_response.file_descriptor_proto == [cluster.raw]


async def test_what_is_not_there(reflect):
    asked = [
        ServerReflectionRequest(file_by_filename="objectio/v2/cluster.proto"),
        ServerReflectionRequest(file_containing_symbol="objectio.v1.Nothing"),
        ServerReflectionRequest(file_containing_extension=ExtensionRequest("objectio.v1.Osd", 9)),
        ServerReflectionRequest(all_extension_numbers_of_type="objectio.v1.Nothing"),
        ServerReflectionRequest(),
    ]
    for answer in await reflect(*asked):
        assert betterproto2.which_one_of(answer, "message_response")[0] == "error_response"
        assert answer.error_response.error_code == 5
    [answer] = await reflect(
        ServerReflectionRequest(all_extension_numbers_of_type="objectio.v1.Osd")
    )
    assert answer.all_extension_numbers_response.base_type_name == "objectio.v1.Osd"


@pytest.mark.client
async def test_grpcurl_as_on_the_page(harness, tmp_path):
    if shutil.which("grpcurl") is None:
        pytest.skip("grpcurl is not installed")

    async def grpcurl(*arguments):
        process = await asyncio.create_subprocess_exec(
            *("grpcurl", "-plaintext", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return (out + err).decode()

    where = harness.address
    assert "objectio.v1.Cluster\n" in await grpcurl(where, "list")
    assert "returns ( stream .objectio.v1.ClusterMap )" in await grpcurl(
        where, "describe", "objectio.v1.Cluster"
    )
    assert "Unauthenticated" in await grpcurl(where, "objectio.v1.Cluster/Status")
    assert harness.refused == {"missing": 1}
    written = tmp_path / "objectio.protoset"
    await grpcurl("-protoset-out", str(written), where, "describe", "objectio.v1.Admin")
    admin = next(file for file in files() if file.name.endswith("admin.proto"))
    assert admin.raw in written.read_bytes()
