"""Locally repairable codes: a lost shard is rebuilt from its local group."""
