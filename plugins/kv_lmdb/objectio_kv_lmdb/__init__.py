"""Metadata in LMDB."""
