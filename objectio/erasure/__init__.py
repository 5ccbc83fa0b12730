"""Erasure codes: the portable type and the reference codecs."""
