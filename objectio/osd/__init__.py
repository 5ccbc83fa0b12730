"""One device's shard store: a log with an index."""
