"""`objectio kms`."""

from __future__ import annotations

import json

import pytest

from objectio.cli.app import main
from objectio.kms.keyring import create_ring, read_ring


@pytest.fixture
def path(tmp_path):
    create_ring(tmp_path / "keyring.json")
    return tmp_path / "keyring.json"


def run(capsys, *argv):
    """Exit code, what was printed, what was said of errors."""
    code = main(["kms", *map(str, argv)])
    return code, *capsys.readouterr()


def test_keys_are_made_rotated_and_listed(capsys, path):
    data = path.parent
    assert run(capsys, "create", "k1", "--data", data)[0] == 0
    assert run(capsys, "rotate", "k1", "--data", data)[0] == 0
    assert run(capsys, "default", "k1", "--data", data)[0] == 0
    code, out, _ = run(capsys, "list", "--data", data, "-f", "json")
    assert code == 0
    shown = {row["key"]: (row["default"], row["versions"]) for row in json.loads(out)}
    assert shown == {"default": (False, 1), "k1": (True, 2)}
    assert run(capsys, "list", "--data", data, "-c", "default")[1].count("yes") == 1
    for key in read_ring(path).keys.values():
        for version in key.versions:
            assert version.secret.hex() not in out


def test_a_configuration_says_where_the_ring_is(capsys, path, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    file = tmp_path / "objectio.toml"
    file.write_text(f"[kms.local]\npath = '{elsewhere}'\n")
    assert run(capsys, "create", "k1", "--config", file)[0] == 0
    assert "k1" in read_ring(elsewhere).keys


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["create", "default"], "already"),
        (["create", "a b"], "cannot name a key"),
        (["rotate", "gone"], "no key 'gone'"),
        (["default", "gone"], "no key 'gone'"),
    ],
)
def test_what_cannot_be_done_is_said(capsys, path, argv, says):
    before = path.read_bytes()
    code, _, said = run(capsys, *argv, "--data", path.parent)
    assert code == (3 if argv[1] == "gone" else 1)
    assert says in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("argv", [["create", "k"], ["list"]])
def test_no_ring_is_made_by_the_way(capsys, tmp_path, argv):
    code, _, said = run(capsys, *argv, "--data", tmp_path)
    assert code == 2
    assert "no key ring" in said
    assert list(tmp_path.iterdir()) == []


def test_a_store_must_be_named(capsys):
    code, _, said = run(capsys, "list")
    assert code == 2
    assert "--data" in said


def test_keys_of_another_manager_are_not_ours(capsys, tmp_path):
    file = tmp_path / "objectio.toml"
    file.write_text("[kms]\ndriver = 'vault'\n")
    code, _, said = run(capsys, "list", "--config", file)
    assert code == 2
    assert "vault" in said
