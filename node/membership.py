"""Membership: every process of the node renews a row of the ledger under its own id for as long as it lives.

Whoever sees that a beat is stale removes its row. What belonged to a member without a row is taken over: stages of
jobs, associations, files. The row of a receiver stays, as *lost*, until its files are taken over: they may be on a disk
that no other machine sees. Beats are compared by the ledger's clock, so machines need not agree on the time.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from sqlalchemy import Connection, Engine

from node import __version__
from node.actor import look_every
from node.ledger.clock import ClockOffset, clock_offset, ledger_clock
from node.ledger.drained_machines import drained_machines
from node.ledger.engine import begin_immediate
from node.ledger.members import Beat, MachineFigures, Member, beats, remove_dead, remove_members, renew_beat
from node.ledger.migrations import revisions
from node.ledger.states import MemberState
from node.process.presence import process_exists, process_space
from node.spool.free_space import Space

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""Between two beats."""
DEAD_SECONDS = 15.0
"""A member that was silent for this long has died."""
RECEIVER = "receiver"
"""The role whose files only its own machine may see."""


def new_member(role: str, machine: str = "") -> Member:
    """Return this process as a member that never was."""
    return Member(
        id=f"{role}-{uuid.uuid4().hex}",
        role=role,
        machine=machine,
        host=process_space(),
        pid=os.getpid(),
        version=__version__,
        revision=revisions()[-1],
    )


def elected(candidates: Iterable[str], key: str) -> str:
    """Return the candidate on which the work on ``key`` falls; "" without one (rendezvous hashing).

    Whoever asks gets the same answer. A candidate that comes or goes changes only the keys that fall to it.
    """
    return max(
        candidates, key=lambda candidate: blake2b(f"{candidate} {key}".encode(), digest_size=8).digest(), default=""
    )


class Membership:
    """The heartbeat of one member, and who else is alive. For any thread."""

    def __init__(
        self,
        engine: Engine,
        member: Member,
        beat_seconds: float = BEAT_SECONDS,
        dead_seconds: float = DEAD_SECONDS,
        space: Callable[[], Space | None] = lambda: None,
    ) -> None:
        """``space``: of the storage folder, asked at each beat; it must answer in little time."""
        self._engine = engine
        self._member = member
        self._beat_seconds = beat_seconds
        self._dead_seconds = dead_seconds
        self._space = space
        self._lock = threading.Lock()
        self._state = MemberState.ACTIVE
        self._drained = False
        self._steady_since: float | None = None
        """Since when the own beats came in time, by the ledger's clock."""
        self._last_beat = 0.0
        self._colleagues: frozenset[str] = frozenset()
        """Active members with this role at the last beat, this one among them unless it drains."""
        self._held: Callable[[], Mapping[str, int]] = dict
        self._held_elsewhere: Mapping[str, int] = {}
        self._left = threading.Event()
        self._beating: threading.Thread | None = None

    @property
    def id(self) -> str:
        """Of this member."""
        return self._member.id

    @property
    def machine(self) -> str:
        """The id of the storage folder of this member."""
        return self._member.machine

    @property
    def is_drained(self) -> bool:
        """Whether an operator drains this machine, as of the last beat."""
        return self._drained

    @property
    def held_elsewhere(self) -> Mapping[str, int]:
        """What members of other machines held at their last beats, added up."""
        return self._held_elsewhere

    def begin(self) -> None:
        """Become a member and beat until ``leave``."""
        self.beat()
        arguments = (self._beat_seconds, self._left, "heartbeat", self.beat)
        self._beating = threading.Thread(target=look_every, args=arguments, name="membership", daemon=True)
        self._beating.start()

    def beat(self) -> frozenset[str]:
        """Renew the own row, remove the rows of the dead, and return the ids of those alive."""
        with self._lock:
            space = self._space()  # before the transaction, for which others wait
            with begin_immediate(self._engine) as connection:
                return self._renewed(connection, space)

    def offer(self, pipelines: tuple[str, ...], devices: tuple[str, ...]) -> None:
        """Show what this member, a worker, can run, and on what."""
        self._member = replace(self._member, pipelines=pipelines, devices=devices)
        self.beat()

    def serve_files(self, url: str, copies_address: str = "") -> None:
        """Show where other machines fetch the files of this one, and where they send second copies to."""
        self._member = replace(self._member, files_url=url, copies_address=copies_address)
        self.beat()

    def show_held(self, held: Callable[[], Mapping[str, int]]) -> None:
        """Show at each beat what this member, a receiver, holds of the limits that count in the fleet."""
        self._held = held

    def is_responsible(self, key: str) -> bool:
        """Whether the work on ``key`` falls to this one of all active members with its role.

        Each has a share. A member that joins or leaves changes the shares within two beats. Until all members have
        noticed, two may be responsible, or none.
        """
        return elected(self._colleagues, key) == self.id

    def alive(self) -> frozenset[str]:
        """Return the ids of the members that are alive, without writing."""
        with self._lock, self._engine.connect() as connection:
            return self._judged(beats(connection), ledger_clock(connection))[0]

    def drain(self) -> None:
        """Show that this member begins nothing more."""
        self._state = MemberState.DRAINING
        self.beat()

    def leave(self) -> None:
        """Remove the own row: what this member left undone is free at once."""
        self._left.set()
        if self._beating is not None:
            self._beating.join()
        with begin_immediate(self._engine) as connection:
            remove_members(connection, [self.id])

    def _renewed(self, connection: Connection, space: Space | None) -> frozenset[str]:
        """Do what ``beat`` says."""
        at = ledger_clock(connection)
        self._member = replace(self._member, held=self._held())
        self._drained = (self._member.machine, self._member.host_name) in drained_machines(connection)
        state = MemberState.DRAINING if self._drained else self._state
        renew_beat(connection, self._member, at, state, _figures(space, clock_offset(connection)))
        if not self._is_steady(at):
            self._steady_since = at
        self._last_beat = at
        members = beats(connection)
        alive, dead = self._judged(members, at)
        remove_dead(connection, dead, RECEIVER)
        of_role = (of for of in members if of.member.role == self._member.role and of.state == MemberState.ACTIVE)
        self._colleagues = frozenset(of.member.id for of in of_role if of.member.id in alive)
        held = Counter[str]()
        for of in members:
            if of.member.id in alive and of.member.host != self._member.host:
                held.update(of.member.held)
        self._held_elsewhere = held
        return alive

    def _judged(self, members: list[Beat], at: float) -> tuple[frozenset[str], frozenset[str]]:
        """Who is alive, this member always, and who has died and is not known as lost."""
        others = [of for of in members if of.member.id != self.id and of.state != MemberState.LOST]
        dead = frozenset(of.member.id for of in others if self._has_died(of, at))
        return frozenset({self.id, *(of.member.id for of in others)}) - dead, dead

    def _has_died(self, other: Beat, at: float) -> bool:
        if other.member.host == self._member.host and not process_exists(other.member.pid):
            return True
        # After an outage of the database every beat is stale, and when the clock was set, every beat is wrong: wait
        # until the others had the time to beat again.
        steady = self._is_steady(at) and at - (self._steady_since or 0.0) > self._dead_seconds
        return steady and abs(at - other.at) > self._dead_seconds

    def _is_steady(self, at: float) -> bool:
        """Whether this member has beaten in time, by which it knows that the others could."""
        return self._steady_since is not None and 0 <= at - self._last_beat <= self._dead_seconds / 2


def _figures(space: Space | None, clock: ClockOffset | None) -> MachineFigures:
    return MachineFigures(
        clock_offset_seconds=clock.seconds if clock else None,
        clock_error_seconds=clock.error if clock else None,
        free_bytes=space.free if space else None,
        total_bytes=space.total if space else None,
    )
