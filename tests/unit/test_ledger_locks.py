"""A second opening of the ledger in a process leaves the first one its locks: its journal stays, with all it has."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from node.ledger.engine import open_ledger

LOOK = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM note').fetchall(); c.close()"


def test_what_is_committed_is_seen_after_another_process_has_looked(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    first = open_ledger(f"sqlite:///{file}")
    with first.begin() as connection:
        connection.execute(sa.text("CREATE TABLE note (number INTEGER)"))
    with first.connect() as held:
        held.execute(sa.text("SELECT * FROM note")).all()
        held.rollback()
        open_ledger(f"sqlite:///{file}").dispose()
        subprocess.run([sys.executable, "-c", LOOK, file], check=True)  # closes it, as the last one as far as it knows
        held.execute(sa.text("INSERT INTO note VALUES (1)"))
        held.commit()
        other = sqlite3.connect(file)
        assert other.execute("SELECT number FROM note").fetchall() == [(1,)]
        other.close()
    first.dispose()
