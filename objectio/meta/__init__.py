"""Typed records over the KV contract."""
