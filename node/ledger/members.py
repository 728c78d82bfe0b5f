"""Members: the processes of all machines that share this ledger, each with the heartbeat that it renews."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.states import MemberState
from node.ledger.tables import member


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of the node."""

    id: str
    """Never used again: a process that starts is another member."""
    role: str
    machine: str = ""
    """The storage folder's id (``node.spool.machine``); machines that share one have the same."""
    host: str
    """The process-id space in which ``pid`` counts; begins with the name of the machine."""
    pid: int
    version: str = ""
    """Of the node."""
    revision: str = ""
    """Of the tables that this version works with."""
    pipelines: tuple[str, ...] = ()
    """That it can run; of workers only."""
    devices: tuple[str, ...] = ()
    """That it runs them on; of workers only."""
    files_url: str = ""
    """Where other members fetch the files of its machine; of file services only."""
    copies_address: str = ""
    """Host and port to which receivers of other machines send second copies; of file services only."""
    configuration: Mapping[str, str] = field(default_factory=dict)
    """Digest of each table of ``config.toml`` that a fleet shares, as this process has read it; empty: it read none."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Of a receiver: associations and requests of a minute, by limit that counts in the fleet."""
    min_free_gib: float | None = None
    """``[storage] min_free_gib`` as this process has read it; ``None``: it read none, or is of an older version."""

    @property
    def host_name(self) -> str:
        """Name of its machine."""
        return self.host.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class MachineFigures:
    """What a process knew of its machine at a heartbeat; ``None``: it did not know, or is of an older version."""

    clock_offset_seconds: float | None = None
    """By how much the clock of the machine is ahead of the ledger's; unknown with SQLite, where both are one."""
    clock_error_seconds: float | None = None
    """The offset may be this much more or less."""
    free_bytes: int | None = None
    """Of the file system of the storage folder; unknown while that does not answer."""
    total_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A member and when it renewed its heartbeat, by the ledger's clock."""

    member: Member
    at: float
    state: MemberState = MemberState.ACTIVE
    began_at: float | None = None
    """When it became a member; ``None``: it is of an older version."""
    figures: MachineFigures = MachineFigures()


def renew_beat(
    connection: sa.Connection,
    of: Member,
    at: float,
    state: MemberState = MemberState.ACTIVE,
    figures: MachineFigures = MachineFigures(),
) -> None:
    """Record that a member is alive at ``at``."""
    beat = {
        "beat_at": at,
        "state": state,
        "pipelines": of.pipelines,
        "devices": of.devices,
        "files_url": of.files_url,
        "copies_address": of.copies_address,
        "held": of.held,
        **asdict(figures),
    }
    if not connection.execute(sa.update(member).where(member.c.id == of.id).values(**beat)).rowcount:
        insert_new(connection, member, [{**asdict(of), **beat, "began_at": at}])


def beats(connection: sa.Connection) -> list[Beat]:
    """The heartbeats of all members that have not left."""
    return [
        Beat(
            member=Member(
                id=row.id,
                role=row.role,
                machine=row.machine,
                host=row.host,
                pid=row.pid,
                version=row.version,
                revision=row.revision,
                pipelines=tuple(row.pipelines),
                devices=tuple(row.devices),
                files_url=row.files_url,
                copies_address=row.copies_address,
                configuration=row.configuration or {},
                held=row.held or {},
                min_free_gib=row.min_free_gib,
            ),
            at=row.beat_at,
            state=MemberState(row.state),
            began_at=row.began_at,
            figures=MachineFigures(
                clock_offset_seconds=row.clock_offset_seconds,
                clock_error_seconds=row.clock_error_seconds,
                free_bytes=row.free_bytes,
                total_bytes=row.total_bytes,
            ),
        )
        for row in connection.execute(sa.select(member).order_by(member.c.role, member.c.id))
    ]


def remove_members(connection: sa.Connection, ids: Collection[str]) -> None:
    """Remove members that have left: what they left undone is free."""
    if ids:
        connection.execute(sa.delete(member).where(member.c.id.in_(ids)))


def remove_dead(connection: sa.Connection, ids: Collection[str], receiver: str) -> None:
    """Remove members that have died, but keep those of the role ``receiver`` as lost until their files are recorded."""
    if ids:
        dead = member.c.id.in_(ids)
        connection.execute(sa.delete(member).where(dead, member.c.role != receiver))
        connection.execute(sa.update(member).where(dead).values(state=MemberState.LOST))


def lost_members(connection: sa.Connection) -> list[Beat]:
    """Receivers that died and whose files nobody has taken over, with their last heartbeats."""
    return [beat for beat in beats(connection) if beat.state == MemberState.LOST]


def remove_lost(connection: sa.Connection, ids: Collection[str]) -> int:
    """Remove lost members, whose files are recorded or are not awaited any more; return how many."""
    lost = member.c.id.in_(ids), member.c.state == MemberState.LOST
    return connection.execute(sa.delete(member).where(*lost)).rowcount
