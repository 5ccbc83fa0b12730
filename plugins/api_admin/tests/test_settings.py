"""The configuration of a real server, over HTTP: it is the one in force, and tells no secret."""

from __future__ import annotations

import json

CANARY = "canary7f3a91"


def test_the_configuration_in_force(server_class, tmp_path):
    target = {"arn": "arn:minio:sqs::one:webhook", "url": f"https://example.com/{CANARY}"}
    data = tmp_path / "data"
    with server_class(data, settings={"gateway.region": "eu-west-7"}) as server:
        server.stop()
        with (data / "objectio.toml").open("a") as file:
            file.write("\n[[sinks.webhook.target]]\n")
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in target.items())
        server.start()
        status, body = server.ask("GET", "/_admin/v1/config", server.credentials)
        assert status == 200
        said = json.loads(body)
        assert (said["node"], said["source"]) == ("n1", str(data / "objectio.toml"))
        config = said["config"]
        assert config["gateway"]["region"] == "eu-west-7", "what the command line overrides"
        assert config["store"]["memory_bytes_max"] > 0, "what nobody has said"
        assert len(config["osd"]["disk"]) == 6
        assert config["osd"]["log"], "the driver's settings, with their defaults"
        assert config["sinks"]["webhook"]["target"][0]["url"] == "https://example.com/…"
        assert CANARY.encode() not in body
        for secret in server.credentials:
            assert secret.encode() not in body
        assert server.ask("GET", "/_admin/v1/config")[0] == 403
