"""Erasure codes: the portable type and the reference codecs."""

from objectio.erasure.code import ErasureCode, ErasureCodes, OpenedFactory

__all__ = ["ErasureCode", "ErasureCodes", "OpenedFactory"]
