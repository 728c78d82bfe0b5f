"""What every role is given."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from node.config import Config
from node.listening import Listening
from node.membership import Membership
from node.process.shutdown import ShutdownSignals
from node.spool import Spool


@dataclass(frozen=True)
class RoleContext:
    """Configuration and resources of a role."""

    config: Config
    engine: Engine
    spool: Spool
    shutdown: ShutdownSignals
    listening: Listening | None
    """Of receivers: the socket that they share."""
    membership: Membership
