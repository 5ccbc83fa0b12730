"""The contracts that a plugin implements. Each module is an essay on one subject.

Everything here is a Protocol or a frozen value; there is no behaviour to inherit. A plugin
imports these for its type checker and is otherwise free. Contracts are small on purpose: the
kernel's concrete types (`objectio.erasure.ErasureCode`, `objectio.kv.KVStore`, …) add
validation, limits, metrics and error mapping around what a plugin author writes.
"""
