"""Isolation of the process that runs third-party models: ``calls`` by seccomp, ``files`` by Landlock."""

from node.isolation.calls import refuse_calls
from node.isolation.files import READ, SIGNALS_ABI, WRITE, abi, confine
from node.isolation.needs import programs

__all__ = ["READ", "SIGNALS_ABI", "WRITE", "abi", "confine", "programs", "refuse_calls"]
