"""A PostgreSQL primary and its replica in the network of a fleet: they vanish from it, and the replica is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import postgres

from node.demo.hospital_network import PREFIX, ip

ADDRESSES = f"{PREFIX}.2", f"{PREFIX}.3"
_BRIDGE = "hospital"


class DatabasePair:
    """Two servers, each at an address of its own; one is the primary of the other."""

    def __init__(self) -> None:
        self._stacks: dict[str, ExitStack] = {}
        """What runs at each address; closing it ends the server and deletes its folder."""
        self._primary, self._replica = ADDRESSES
        self._standby: postgres.Server | None = None

    @contextmanager
    def running(self, _address: str) -> Iterator[str]:
        """Start both, and yield the URL of the ledger."""
        for address in ADDRESSES:
            self.repair(address)
        try:
            self._stacks[self._primary] = stack = ExitStack()
            stack.enter_context(postgres.primary(self._primary))
            self._follow()
            hosts = "&".join(f"host={address}:5432" for address in ADDRESSES)
            yield f"postgresql://ainode@/postgres?{hosts}"
        finally:
            for stack in self._stacks.values():
                stack.close()

    def cut(self, address: str = "") -> None:
        """Take the address of the primary, or another, from the network: packets to it vanish."""
        ip("address", "delete", f"{address or self._primary}/24", "dev", _BRIDGE)

    def repair(self, address: str = "") -> None:
        """Give it back."""
        ip("address", "add", f"{address or self._primary}/24", "dev", _BRIDGE)

    def fail_over(self) -> None:
        """The primary vanishes for good, the replica is promoted; what it had not received yet is lost.

        A new replica then follows, at the address of the old primary.
        """
        self.cut()
        assert self._standby is not None
        self._standby.promote()
        self._stacks.pop(self._primary).close()
        self._primary, self._replica = self._replica, self._primary
        self.repair(self._replica)
        self._follow()

    def _follow(self) -> None:
        self._stacks[self._replica] = stack = ExitStack()
        self._standby = stack.enter_context(postgres.replica(self._primary, self._replica))
