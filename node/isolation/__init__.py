"""Isolation of processes that run third-party models or read strangers' files.

``calls`` by seccomp, ``files`` by Landlock, ``namespaces`` with an ``own_root``, and an ``own_user`` for root.
"""

from node.isolation.files import READ, SIGNALS_ABI, WRITE, abi, confine
from node.isolation.needs import programs
from node.isolation.system_call_filter import refuse_calls

__all__ = ["READ", "SIGNALS_ABI", "WRITE", "abi", "confine", "programs", "refuse_calls"]
