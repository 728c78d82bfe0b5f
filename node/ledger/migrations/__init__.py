"""Migrations of the ledger: each change of a table is a revision in ``versions``, applied when the ledger is opened.

Revisions are numbered 0001, 0002 and so on; their file names begin with ``v`` and the number. Alembic takes longer to
import than a receiver to start, so it is imported only when there is something to apply.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from node.errors import LedgerError

FOLDER = Path(__file__).parent
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))
_FIRST_TABLE = "instance"


def is_current(connection: sa.Connection) -> bool:
    """Whether the ledger has the tables that this version of the node works with."""
    return _version(connection) == revisions()[-1]


def upgrade(connection: sa.Connection) -> None:
    """Create the tables of the ledger or bring them up to date, inside the caller's transaction.

    Raises ``LedgerError`` when a newer version of the node has written the ledger, or one before 1.0.0.
    """
    version, known = _version(connection), revisions()
    if version == known[-1]:
        return
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

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.scalar(sa.select(_VERSION.c.version_num))


def revisions() -> list[str]:
    """Numbers of the revisions that this version of the node knows, the oldest first."""
    return sorted(path.name[1:5] for path in (FOLDER / "versions").glob("v*.py"))
