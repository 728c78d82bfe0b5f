"""Migrations of the ledger: each change of a table is a revision in ``versions``, applied when the ledger is opened.

Revisions are numbered 0001, 0002 and so on; their file names begin with ``v`` and the number. Alembic takes longer to
import than a receiver to start, so it is imported only when there is something to apply.

A revision that only adds to the tables states with ``OLDEST`` the oldest revision whose version of the node works with
them, too. Processes of that version may go on, and start again, beside those of the new one.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from node.errors import LedgerError

FOLDER = Path(__file__).parent
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))
_OLDEST = sa.Table("oldest_revision", sa.MetaData(), sa.Column("number", sa.Text, primary_key=True))
"""What the newest revision states as ``OLDEST``, or its own number; before revision 0035 the table may be missing."""
_MEMBER = sa.table("member", *(sa.column(name) for name in ("revision", "version", "beat_at")))
_FIRST_TABLE = "instance"
_ALIVE_SECONDS = 20.0
"""A process whose heartbeat is older has died (``node.membership.DEAD_SECONDS`` and the time between two)."""


def is_usable(connection: sa.Connection) -> bool:
    """Whether this version of the node works with the tables: its own, or those to which a newer one has only added."""
    version, newest = _version(connection), revisions()[-1]
    return version is not None and (version == newest or _oldest(connection, version) <= newest < version)


def upgrade(connection: sa.Connection, at: float) -> None:
    """Create the tables of the ledger or bring them up to date, inside the caller's transaction.

    ``at``: now, by the ledger's clock.

    Raises ``LedgerError`` when a newer version of the node has written the ledger that this one cannot follow, or one
    before 1.0.0; and when processes are alive that could not work with the new tables.
    """
    if is_usable(connection):
        return
    version, known = _version(connection), revisions()
    if version is not None and version not in known:
        raise LedgerError(
            f"the ledger is of a newer version of the node (its tables are {version}, this version knows {known[-1]}); "
            "install that version again, or restore the backup that was made before the upgrade"
        )
    if version is None and sa.inspect(connection).has_table(_FIRST_TABLE):
        raise LedgerError(
            "the ledger is of a version before 1.0.0, which cannot be upgraded; "
            "move it away: the node makes another from the files in [storage] folder"
        )
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    newest = ScriptDirectory.from_config(config).get_revision("head")
    oldest = getattr(newest.module, "OLDEST", newest.revision)
    if version is not None:
        _refuse_beside(connection, oldest, at)
    command.upgrade(config, "head")
    _OLDEST.create(connection, checkfirst=True)
    connection.execute(sa.delete(_OLDEST))
    connection.execute(sa.insert(_OLDEST).values(number=oldest))


def _refuse_beside(connection: sa.Connection, oldest: str, at: float) -> None:
    """Raise ``LedgerError`` if a process is alive whose version cannot work with the tables that will be made."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(_MEMBER.name):
        return
    if not {column.name for column in _MEMBER.columns} <= {
        column["name"] for column in inspector.get_columns(_MEMBER.name)
    }:
        return
    old = sa.select(_MEMBER.c.version).where(_MEMBER.c.revision < oldest, _MEMBER.c.beat_at > at - _ALIVE_SECONDS)
    versions = sorted(set(connection.scalars(old)))
    if versions:
        raise LedgerError(
            f"the tables of the ledger cannot be brought up to date while processes of version {', '.join(versions)} "
            "run, which would fail with them; stop the node on every machine, then start this version"
        )


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.scalar(sa.select(_VERSION.c.version_num))


def _oldest(connection: sa.Connection, version: str) -> str:
    if not sa.inspect(connection).has_table(_OLDEST.name):
        return version
    return connection.scalar(sa.select(_OLDEST.c.number)) or version


def revisions() -> list[str]:
    """Numbers of the revisions that this version of the node knows, the oldest first."""
    return sorted(path.name[1:5] for path in (FOLDER / "versions").glob("v*.py"))
