"""The secret of a cluster, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from objectio.config import Config
from objectio.config.schema import ClusterSection, NodeSection
from objectio.errors import ConfigError
from objectio.rpc.auth import load_secret
from objectio.runtime.identity import founder_identity, member_identity, role_of
from objectio.runtime.lock import DirectoryLock


@pytest.fixture
def config(tmp_path):
    return lambda *roles, name="one", **cluster: Config(
        node=NodeSection(data_dir=str(tmp_path / "data"), roles=roles, name=name),
        cluster=ClusterSection(**cluster),
    )


async def test_whoever_waits_for_the_secret_gets_the_one_that_is_made(config, tmp_path):
    waiting = asyncio.ensure_future(member_identity(config("osd", name="two")))
    await asyncio.sleep(0)
    assert not waiting.done()
    founder = founder_identity(config("meta"))
    member = await asyncio.wait_for(waiting, 10)
    assert founder.secret == member.secret
    assert (founder.role, founder.node) == ("meta", "one")
    assert (member.role, member.node) == ("osd", "two")
    path = tmp_path / "data/cluster.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["cluster.secret"]


async def test_the_secret_is_made_once(config):
    assert founder_identity(config("meta")).secret == founder_identity(config("meta")).secret


async def test_the_secret_may_be_elsewhere(config, tmp_path):
    path = tmp_path / "elsewhere/key"
    made = founder_identity(config("meta", secret_file=str(path)))
    assert load_secret(path) == made.secret


async def test_a_secret_that_others_can_read_is_refused(config, tmp_path):
    founder_identity(config("meta"))
    (tmp_path / "data/cluster.secret").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        await member_identity(config("osd"))


@pytest.mark.parametrize(
    ("roles", "role"),
    [(("osd", "meta", "gateway"), "meta"), (("gateway", "osd"), "osd"), (("gateway",), "gateway")],
)
def test_a_process_calls_itself_by_the_first_of_its_roles(config, roles, role):
    assert role_of(config(*roles)) == role


def test_processes_of_one_directory_are_told_apart_by_their_names(tmp_path):
    meta, osd = DirectoryLock(tmp_path), DirectoryLock(tmp_path, "osd-1")
    meta.acquire()
    osd.acquire()
    with pytest.raises(ConfigError, match=r"the name osd-1 in .* is in use by another process"):
        DirectoryLock(tmp_path, "osd-1").acquire()
    DirectoryLock(tmp_path, "osd-2").acquire()
    with pytest.raises(ConfigError, match="take another directory"):
        DirectoryLock(tmp_path).acquire()
    osd.release()
    DirectoryLock(tmp_path, "osd-1").acquire()
