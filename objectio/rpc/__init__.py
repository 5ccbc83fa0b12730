"""The data plane: calls with large payloads between roles in different processes.

`docs/explanation/wire.md` describes the bytes. From the bottom up: `frames` (sans-IO), `auth` (who
may speak), `client` and `server` (the two ends), and the services `shards` and `kv`.
"""
