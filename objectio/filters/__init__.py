"""Wrappers around drivers."""
