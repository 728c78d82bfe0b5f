"""The fleet: all processes of the machines that share this ledger, as their heartbeats show them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from node.errors import NotFoundError
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.members import Member, beats, lost_members, remove_lost
from node.ledger.states import MemberState
from node.process.presence import process_exists, process_space

ALIVE_SECONDS = 30.0
"""A member that was silent for longer is not counted."""


def abandon_machine(engine: sa.Engine, machine: str) -> int:
    """Stop waiting for receivers that died on a machine, named by its host name or the beginning of its id.

    Returns how many. Raises ``NotFoundError`` when none of them is lost.
    """
    with begin_immediate(engine) as connection:
        lost = [
            beat.member.id
            for beat in lost_members(connection)
            if beat.member.host_name == machine or (machine and beat.member.machine.startswith(machine))
        ]
        if not lost:
            raise NotFoundError(f"no receiver of {machine!r} is lost; `ainode fleet` lists names and ids")
        return remove_lost(connection, lost)


def fleet(engine: sa.Engine) -> list[dict[str, Any]]:
    """Every member that has not left: its description, state and the age of its last beat in seconds."""
    with engine.connect() as connection:
        at, members = ledger_clock(connection), beats(connection)
    return [
        {
            **asdict(beat.member),
            "host": beat.member.host_name,
            "state": beat.state,
            "beat_age_seconds": round(max(at - beat.at, 0.0), 1),
        }
        for beat in members
    ]


def live_members(connection: sa.Connection) -> list[Member]:
    """Return the processes with a recent heartbeat, without those of this machine that died."""
    here, since = process_space(), ledger_clock(connection) - ALIVE_SECONDS
    return [
        beat.member
        for beat in beats(connection)
        if beat.at > since
        and beat.state != MemberState.LOST
        and (beat.member.host != here or process_exists(beat.member.pid))
    ]
