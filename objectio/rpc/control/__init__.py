"""The control plane: gRPC on the port of the metadata process.

`proto/` is what other languages need; `pb/` is made from it. Every call proves who makes it
(`proof`), and `roles` says who may call what.
"""
