"""The fleet: all processes of the machines that share this ledger, as their heartbeats show them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.members import beats


def fleet(engine: sa.Engine) -> list[dict[str, Any]]:
    """Every member that has not left: its description, state and the age of its last beat in seconds."""
    with engine.connect() as connection:
        at, members = ledger_clock(connection), beats(connection)
    return [
        {
            **asdict(beat.member),
            "host": beat.member.host.partition("/")[0],
            "state": beat.state,
            "beat_age_seconds": round(max(at - beat.at, 0.0), 1),
        }
        for beat in members
    ]
