"""Placement groups and the reference placement."""
