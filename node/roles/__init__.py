"""What each role runs, in a module of its name. Only these modules wire the rooms together."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.roles.context import RoleContext

CONFIG_FILE = "AINODE_CONFIG"
"""Environment variable that names the configuration file to the processes of roles: one of them edits it."""
ROLES = ("receiver", "router", "worker", "sender", "web", "files", "orders", "dicomweb")
"""By the name for ``ainode run --only``, in the order in which they are started and stopped."""


def load_role(name: str) -> Callable[[RoleContext], AbstractContextManager[None]]:
    """Import what a role needs; return its context manager, within which the role runs."""
    function: Callable[[RoleContext], AbstractContextManager[None]] = importlib.import_module(f"node.roles.{name}").run
    return function
