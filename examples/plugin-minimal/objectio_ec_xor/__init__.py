"""One parity shard by exclusive or: an example of a plugin for ObjectIO."""
