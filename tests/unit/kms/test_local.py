"""The key ring in a file: the contract, the file itself, and processes that share it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import stat

import pytest

from objectio.errors import (
    AccessDenied,
    AlreadyExists,
    ConfigError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from objectio.kms.keyring import (
    change_ring,
    create_ring,
    key_name,
    make_ring,
    read_ring,
    unwrap,
    with_default,
    with_key,
    with_new_version,
    wrap,
)
from objectio.kms.local import DRIVER, LocalKmsConfig
from objectio.testing.context import make_context
from objectio.testing.kms import CONTEXT, KeyManagerConformance

PLAIN = bytes(range(32))


class TestLocalKeys(KeyManagerConformance):
    @pytest.fixture
    def open_manager(self, tmp_path):
        context = make_context(tmp_path)
        return lambda: DRIVER.open(LocalKmsConfig(), context)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keyring.json"
    create_ring(path)
    return path


@pytest.fixture
async def manager(path):
    manager = DRIVER.open(LocalKmsConfig(path=str(path)), make_context(path.parent))
    await manager.start(None)
    yield manager
    await manager.close()


# The file.


def test_only_the_owner_may_read_the_file(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    change_ring(path, lambda ring: with_key(ring, "k"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_made_is_not_made_again(path):
    before = path.read_bytes()
    assert create_ring(path) == read_ring(path)
    assert path.read_bytes() == before


def test_nothing_is_left_beside_the_file(path):
    change_ring(path, lambda ring: with_new_version(ring, "default"))
    create_ring(path)
    with pytest.raises(AlreadyExists):
        change_ring(path, lambda ring: with_key(ring, "default"))
    assert os.listdir(path.parent) == [path.name]


def _create(path, barrier, found):
    barrier.wait()
    found.put(create_ring(path).id)


def test_processes_that_start_at_once_share_one_ring(tmp_path):
    spawn = multiprocessing.get_context("fork")
    barrier, found = spawn.Barrier(6), spawn.Queue()
    there = tmp_path / "new" / "keyring.json"
    processes = [spawn.Process(target=_create, args=(there, barrier, found)) for _ in range(6)]
    for process in processes:
        process.start()
    ids = {found.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert ids == {read_ring(there).id}
    assert os.listdir(there.parent) == [there.name]


def _add(path, barrier, name):
    barrier.wait()
    for number in range(5):
        change_ring(path, lambda ring, number=number: with_key(ring, f"{name}-{number}"))


def test_processes_that_change_it_at_once_lose_nothing(path):
    spawn = multiprocessing.get_context("fork")
    barrier = spawn.Barrier(4)
    processes = [spawn.Process(target=_add, args=(path, barrier, f"p{n}")) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert set(read_ring(path).keys) == {"default"} | {
        f"p{n}-{number}" for n in range(4) for number in range(5)
    }


def _die_in_rename(path):
    import objectio.kms.keyring as keyring

    keyring.Path.replace = lambda self, target: os._exit(9)
    change_ring(path, lambda ring: with_key(ring, "never"))


def test_a_crash_in_the_middle_of_a_change_leaves_the_old_ring(path):
    before = path.read_bytes()
    process = multiprocessing.get_context("fork").Process(target=_die_in_rename, args=(path,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert path.read_bytes() == before
    assert (
        "after" in change_ring(path, lambda ring: with_key(ring, "after")).keys
    )  # no lock is left


def _rotate_for_ever(path, barrier):
    barrier.wait()
    while True:
        change_ring(path, lambda ring: with_new_version(ring, "default"))


def test_who_is_killed_in_the_middle_loses_no_version_and_leaves_no_keys_about(path):
    versions = 1
    for number in range(6):
        fork = multiprocessing.get_context("fork")
        barrier = fork.Barrier(2)
        process = fork.Process(target=_rotate_for_ever, args=(path, barrier))
        process.start()
        barrier.wait(30)
        process.join(0.01 * number)  # so long it may do what it does
        process.kill()
        process.join(30)
        found = read_ring(path).keys["default"].versions
        assert len(found) >= versions
        versions = len(found)
    change_ring(path, lambda ring: with_key(ring, "after"))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("length", [0, 1, 40, -2])
def test_a_file_that_was_cut_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ConfigError, match="restore it from a backup"):
        read_ring(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda ring: ring.update(format=2),
        lambda ring: ring.update(default="other"),
        lambda ring: ring.update(more=1),
        lambda ring: ring["keys"]["default"].update(versions=[]),
        lambda ring: ring["keys"]["default"]["versions"][0].update(secret="c2hvcnQ="),
        lambda ring: ring["keys"]["default"]["versions"][0].update(id="xyz"),
        lambda ring: ring["keys"].update(copy=ring["keys"]["default"]),
    ],
)
def test_a_ring_that_is_not_right_is_refused(path, damage):
    ring = json.loads(path.read_text())
    secret = ring["keys"]["default"]["versions"][0]["secret"]
    damage(ring)
    path.write_text(json.dumps(ring))
    with pytest.raises(ConfigError) as raised:
        read_ring(path)
    assert raised.value.__cause__ is None
    assert secret not in str(raised.value)


def test_a_ring_never_shows_its_keys(path):
    ring = read_ring(path)
    [version] = ring.keys["default"].versions
    assert repr(version.secret) not in repr(ring)
    assert version.secret.hex() not in repr(ring)


# Keys.


@pytest.mark.parametrize(
    ("key_id", "name"),
    [
        ("plain", "plain"),
        ("alias/plain", "plain"),
        ("arn:aws:kms:us-east-1:123456789012:key/plain", "plain"),
        ("arn:aws:kms:us-east-1:123456789012:alias/plain", "plain"),
        ("arn:aws:kms:us-east-1:123456789012:alias/a/b", "a/b"),
    ],
)
def test_keys_have_the_names_that_aws_gives_them_too(key_id, name):
    assert key_name(key_id) == name
    ring = with_key(make_ring(), name)
    assert unwrap(ring, key_id, wrap(ring, name, PLAIN, {}), {}) == PLAIN
    assert unwrap(ring, name, wrap(ring, key_id, PLAIN, {}), {}) == PLAIN


@pytest.mark.parametrize("key_id", ["arn:x\r\ny:key/plain", "arn:aws:s3:::key/plain", "key/plain"])
def test_what_only_ends_like_a_key_is_none(key_id):
    with pytest.raises(NotFound):
        with_key(make_ring(), "plain").key(key_id)


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a\n", "x" * 129, "alias/a", "arn:aws:kms:::key/a"]
)
def test_a_name_that_means_something_else_is_refused(name):
    with pytest.raises(InvalidRequest):
        with_key(make_ring(), name)


def test_a_rotated_key_opens_what_it_wrapped_before():
    ring = make_ring()
    before = wrap(ring, "default", PLAIN, CONTEXT)
    rotated = with_new_version(ring, "default")
    after = wrap(rotated, "default", PLAIN, CONTEXT)
    assert unwrap(rotated, "default", before, CONTEXT) == PLAIN
    assert unwrap(rotated, "default", after, CONTEXT) == PLAIN
    with pytest.raises(NotFound, match="restore the ring"):
        unwrap(ring, "default", after, CONTEXT)


def test_one_key_does_not_open_what_another_wrapped():
    ring = with_key(make_ring(), "other")
    with pytest.raises((AccessDenied, NotFound)):
        unwrap(ring, "other", wrap(ring, "default", PLAIN, {}), {})


def test_a_context_cannot_be_mistaken_for_another():
    ring = make_ring()
    wrapped = wrap(ring, "default", PLAIN, {"a": "b", "c": "d"})
    for context in ({"a": 'b","c":"d'}, {"a": "b", "c": "d", "": ""}, {'a":"b': "c"}, {"ab": "cd"}):
        with pytest.raises(AccessDenied):
            unwrap(ring, "default", wrapped, context)


def test_a_context_has_a_bound():
    with pytest.raises(InvalidRequest):
        wrap(make_ring(), "default", PLAIN, {"a": "b" * 20_000})


# Processes that run while it changes.


async def test_a_key_that_was_made_meanwhile_is_there(path, manager):
    with pytest.raises(NotFound):
        await manager.generate("new", {})
    change_ring(path, lambda ring: with_key(ring, "new"))
    made = await manager.generate("new", {})
    assert await manager.keys() == ["default", "new"]
    change_ring(path, lambda ring: with_default(with_new_version(ring, "new"), "new"))
    assert manager.default_key == "new"
    assert await manager.unwrap("new", made.wrapped, {}) == made.plain


async def test_a_ring_that_went_away_is_never_made_anew(path, manager, caplog):
    made = await manager.generate("default", {})
    aside = path.rename(path.with_name("aside"))
    for _ in range(2):
        with pytest.raises(Unavailable, match="missing"):
            await manager.unwrap("default", made.wrapped, {})
    assert not path.exists()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]  # said once
    aside.rename(path)
    assert await manager.unwrap("default", made.wrapped, {}) == made.plain


async def test_a_start_in_a_cluster_with_keys_makes_none(tmp_path, caplog):
    manager = DRIVER.open(LocalKmsConfig(), make_context(tmp_path))
    await manager.start("0" * 32)
    assert "missing" in caplog.text
    with pytest.raises(Unavailable):
        await manager.generate("default", {})
    assert not (tmp_path / "test" / "keyring.json").exists()


async def test_the_ring_of_another_cluster_is_not_used(path, manager, tmp_path):
    made = await manager.generate("default", {})
    own = path.read_bytes()
    path.unlink()
    create_ring(path)
    with pytest.raises(Unavailable, match="this cluster's is"):
        await manager.generate("default", {})
    path.write_bytes(own)
    assert await manager.unwrap("default", made.wrapped, {}) == made.plain


async def test_what_the_doctor_is_told(path, manager):
    assert manager.findings() == []
    path.chmod(0o640)
    [found] = manager.findings()
    assert (found.severity, "chmod 600" in found.action) == ("warning", True)
    own = path.read_bytes()
    for damage in (path.unlink, lambda: create_ring(path), lambda: path.write_bytes(b"{")):
        damage()
        [found] = manager.findings()
        assert (found.severity, "backup" in found.action) == ("critical", True)
    path.write_bytes(own)
    path.chmod(0o600)
    assert manager.findings() == []


async def test_a_ring_that_others_may_read_is_told_of(path, caplog):
    path.chmod(0o644)
    manager = DRIVER.open(LocalKmsConfig(path=str(path)), make_context(path.parent))
    await manager.start(None)
    await manager.generate("default", {})
    assert "chmod 600" in caplog.text
