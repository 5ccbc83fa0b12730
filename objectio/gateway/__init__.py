"""Hosts the ASGI front ends behind the one gate."""
