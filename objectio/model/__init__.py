"""Frozen value types that every layer shares. No behaviour beyond validation and packing."""
