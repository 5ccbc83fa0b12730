"""Identities, credentials, SigV4 and policies."""
