"""The version of the node that comes next: a copy of this one with one revision more of the ledger."""

from __future__ import annotations

import shutil
from pathlib import Path

from node import __version__
from node.ledger import migrations

ROOT = Path(__file__).parents[2]
NEWEST = migrations.revisions()[-1]
NEXT = f"{int(NEWEST) + 1:04d}"
VERSION = "1.999.0"
ADDS = """    op.add_column("job", sa.Column("cost", sa.Double(), nullable=False, server_default="1.5"))
    op.create_table("added", sa.Column("id", sa.Integer(), primary_key=True))
"""
RENAMES = """    with op.batch_alter_table("job") as job:
        job.alter_column("reason", new_column_name="because")
"""
_REVISION = '''"""A change of tomorrow."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
{oldest}

def upgrade() -> None:
    """Apply the change."""
{change}'''


def revision_text(change: str, revision: str = NEXT, oldest: str | None = None) -> str:
    """A revision that follows the one before it; ``oldest``: of what version processes may go on."""
    stated = "" if oldest is None else f'OLDEST = "{oldest}"\n'
    return _REVISION.format(revision=revision, before=f"{int(revision) - 1:04d}", oldest=stated, change=change)


def next_version(folder: Path, change: str, oldest: str | None = None) -> Path:
    """Make a copy of the node below ``folder`` that knows one revision more; return where Python finds it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("node", "pipelines"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    code = folder / "node" / "__init__.py"
    code.write_text(code.read_text().replace(f'__version__ = "{__version__}"', f'__version__ = "{VERSION}"'))
    versions = folder / "node" / "ledger" / "migrations" / "versions"
    (versions / f"v{NEXT}_tomorrow.py").write_text(revision_text(change, oldest=oldest))
    return folder
