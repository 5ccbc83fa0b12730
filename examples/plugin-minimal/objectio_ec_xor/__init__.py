"""One parity shard by exclusive or: a plugin for ObjectIO."""
