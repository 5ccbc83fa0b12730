"""Loading: file, environment, flags, and what each error says."""

from __future__ import annotations

import pytest

from objectio.config import Config, load_config
from objectio.errors import ConfigError


def write(tmp_path, text):
    path = tmp_path / "objectio.toml"
    path.write_text(text)
    return path


def load(tmp_path, text="", **more):
    return load_config(write(tmp_path, text), **{"env": {}, **more})


def refused(tmp_path, text="", **more):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text, **more)
    return str(raised.value)


def test_no_file_gives_the_defaults():
    config = load_config(None, env={})
    assert config == Config()
    assert config.gateway.listen == "127.0.0.1:9000"
    assert (config.pool.data_shards, config.pool.parity_shards) == (4, 2)
    assert config.node.roles == ("osd", "meta", "gateway")


def test_a_file_is_typed(tmp_path):
    config = load(
        tmp_path,
        """
        [gateway]
        listen = "[::1]:0"
        apis = ["s3"]
        auth = false
        body_idle_seconds = 2
        [[osd.disk]]
        id = 3
        path = "disks/3"
        [[osd.disk]]
        id = 4
        path = "/dev/sdb"
        host = "h2"
        [osd.log]
        segment_size_bytes = 1_048_576
        """,
    )
    assert config.gateway.listen == "[::1]:0"
    assert config.gateway.apis == ("s3",)
    assert config.gateway.auth is False
    assert config.gateway.body_idle_seconds == 2.0
    assert [(disk.id, disk.host) for disk in config.osd.disk] == [(3, "localhost"), (4, "h2")]
    assert config.driver_tables == {"osd": {"log": {"segment_size_bytes": 1_048_576}}}


def test_paths_are_relative_to_the_file_and_the_data_directory(tmp_path):
    config = load(
        tmp_path,
        """
        [node]
        data_dir = "data"
        [[osd.disk]]
        id = 0
        path = "disks/0"
        [[osd.disk]]
        id = 1
        path = "/dev/sdb"
        """,
    )
    assert config.data_dir == tmp_path / "data"
    assert config.disk_path(config.osd.disk[0]) == tmp_path / "data/disks/0"
    assert str(config.disk_path(config.osd.disk[1])) == "/dev/sdb"


def test_an_unknown_key_is_named_with_file_path_and_suggestion(tmp_path):
    said = refused(tmp_path, "[gateway]\nlisen = '127.0.0.1:1'\n")
    assert str(tmp_path / "objectio.toml") in said
    assert "gateway.lisen: unknown key; did you mean gateway.listen?" in said


def test_an_unknown_key_that_resembles_nothing_gets_the_known_ones(tmp_path):
    assert "known: driver" in refused(tmp_path, "[kv]\nzzz = 1\n")


def test_an_unknown_section(tmp_path):
    assert "did you mean gateway?" in refused(tmp_path, "[gatewy]\n")
    assert "[node]" in refused(tmp_path, "node = 3\n")


def test_an_unknown_key_of_a_disk_says_which_disk(tmp_path):
    text = "[[osd.disk]]\nid = 0\npath = 'a'\n[[osd.disk]]\nid = 1\npath = 'b'\nwieght = 2\n"
    assert "osd.disk[1].wieght: unknown key; did you mean osd.disk[1].weight?" in refused(
        tmp_path, text
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[gateway]\nconnections_max = 'many'",
            "gateway.connections_max = 'many': must be a whole",
        ),
        ("[gateway]\nconnections_max = 0", "must be a whole number, at least 1"),
        ("[gateway]\nauth = 'no'", "gateway.auth = 'no': must be true or false"),
        ("[gateway]\nlisten = '9000'", "HOST:PORT"),
        ("[gateway]\nlisten = 'localhost:70000'", "above 65535"),
        ("[log]\nlevel = 'loud'", 'log.level = \'loud\': must be one of "debug", "error"'),
        ("[pool]\ndata_shards = 0", "pool.data_shards = 0: must be a whole number, 1 to 64"),
        ("[pool]\ndata_shards = 60\nparity_shards = 60", "may not exceed 64"),
        ("[pool]\nstripe_size_bytes = '4 MiB'", "must be a whole number"),
        ("[store]\ngc_grace_seconds = -1", "must be a number, at least 0"),
        ("[store]\ngc_grace_seconds = nan", "finite"),
        ("[store]\ngc_grace_seconds = inf", "finite"),
        ("[node]\nroles = ['osd', 3]", "node.roles[1] = 3: must be a string"),
        ("[node]\nroles = 'osd'", "node.roles = 'osd': must be a list"),
        ("[[osd.disk]]\nid = 0", "osd.disk[0]: object missing required field `path`"),
        ("[[osd.disk]]\nid = -2\npath='a'", "osd.disk[0].id = -2: must be a whole number"),
        ("[[osd.disk]]\nid=1\npath='a'\n[[osd.disk]]\nid=1\npath='b'", "two of the disks"),
        ("[[osd.disk]]\nid=1\npath='a'\n[[osd.disk]]\nid=2\npath='a'", "two of the disks"),
        ("[kv\n", "is not TOML"),
        ("[kv]\nlmdb = 'fast'\n", "kv.lmdb: unknown key"),
    ],
)
def test_a_wrong_value_says_where_and_what_is_allowed(tmp_path, text, says):
    said = refused(tmp_path, text)
    assert says in said
    assert "objectio.toml" in said


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file.*config sample"):
        load_config(tmp_path / "gone.toml", env={})


def test_the_environment_overrides_the_file_and_flags_override_both(tmp_path):
    text = "[gateway]\nlisten = '127.0.0.1:1'\nregion = 'file'\n[pool]\ndata_shards = 8\n"
    env = {
        "OBJECTIO_GATEWAY_LISTEN": "127.0.0.1:2",
        "OBJECTIO_GATEWAY_AUTH": "off",
        "OBJECTIO_GATEWAY_APIS": "s3, admin",
        "OBJECTIO_POOL_STRIPE_SIZE_BYTES": "1_048_576",
        "OBJECTIO_STORE_WRITE_STRAGGLER_SECONDS": "0.25",
        "OBJECTIO_NODE_DISABLED_PLUGINS": "",
    }
    config = load(tmp_path, text, env=env, overrides=["gateway.listen=127.0.0.1:3"])
    assert config.gateway.listen == "127.0.0.1:3"
    assert config.gateway.region == "file"
    assert config.gateway.auth is False
    assert config.gateway.apis == ("s3", "admin")
    assert config.pool.stripe_size_bytes == 1_048_576
    assert config.pool.data_shards == 8
    assert config.store.write_straggler_seconds == 0.25
    assert config.node.disabled_plugins == ()


def test_reserved_and_foreign_variables_are_left_alone(tmp_path):
    env = {
        "OBJECTIO_ENDPOINT": "http://x",
        "OBJECTIO_ROOT_ACCESS_KEY": "AK",
        "OBJECTIO_ROOT_SECRET_KEY": "SK",
        "OBJECTIO_ACCESS_KEY": "AK",
        "OBJECTIO_SECRET_KEY": "SK",
        "OBJECTIO_SOMETHING_ELSE": "1",
        "HOME": "/home/me",
        # What Kubernetes sets for a service called objectio-gateway.
        "OBJECTIO_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "OBJECTIO_GATEWAY_PORT": "tcp://10.0.0.1:9000",
        "OBJECTIO_GATEWAY_PORT_9000_TCP_ADDR": "10.0.0.1",
    }
    assert load(tmp_path, env=env) == load(tmp_path)


def test_an_unknown_variable_of_a_known_section_is_an_error(tmp_path):
    said = refused(tmp_path, env={"OBJECTIO_GATEWAY_LISTENS": "x"})
    assert "environment variable OBJECTIO_GATEWAY_LISTENS" in said
    assert "did you mean gateway.listen?" in said


@pytest.mark.parametrize(
    ("env", "flags", "says"),
    [
        ({"OBJECTIO_POOL_DATA_SHARDS": "four"}, [], "pool.data_shards = 'four': must be a whole"),
        ({"OBJECTIO_POOL_DATA_SHARDS": "0"}, [], "environment variable OBJECTIO_POOL_DATA_SHARDS"),
        ({"OBJECTIO_GATEWAY_AUTH": "maybe"}, [], "must be true or false"),
        ({"OBJECTIO_OSD_DISK": "0"}, [], "osd.disk = '0': must be tables"),
        ({}, ["pool.data_shards=0"], "--set pool.data_shards=0"),
        ({}, ["pool.data_shards"], "write --set section.key=value"),
        ({}, ["data_shards=4"], "write --set section.key=value"),
        ({}, ["pol.data_shards=4"], "did you mean pool?"),
        ({}, ["pool.data_shard=4"], "did you mean pool.data_shards?"),
        ({}, ["pool.isal.x=4"], "unknown key"),
    ],
)
def test_wrong_variables_and_flags_are_named(tmp_path, env, flags, says):
    assert says in refused(tmp_path, env=env, overrides=flags)


def test_flags_reach_tables_of_drivers(tmp_path):
    flags = ["kv.lmdb.map_size_bytes=1024", "kv.lmdb.path=a b", "osd.log.sync=false"]
    config = load(tmp_path, "[kv.lmdb]\nmap_size_bytes = 1\n", overrides=flags)
    assert config.driver_tables == {
        "kv": {"lmdb": {"map_size_bytes": 1024, "path": "a b"}},
        "osd": {"log": {"sync": False}},
    }
