"""What a node that has nothing to do asks of PostgreSQL: statements and transactions a second, by statement.

usage: idle_ledger.py [SECONDS]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import postgres
import sqlalchemy as sa
from whole_node import WholeNode

SETTLED_SECONDS = 10.0
"""After the start, whose own statements are not counted."""
_STATEMENT = re.compile(r"(?:statement|execute [^:]*): (.*)")
_SHOWN = 12


def statements(log: bytes) -> Counter[str]:
    """The first words of all that the server was asked; what follows a table's name does not matter here."""
    return Counter(" ".join(statement.split())[:100] for statement in _STATEMENT.findall(log.decode(errors="replace")))


def main(seconds: float) -> None:
    """Start a node, wait, count and print."""
    with tempfile.TemporaryDirectory() as folder, postgres.cluster() as url:
        node = WholeNode(Path(folder) / "node", 104)
        node.config.write_text(node.config.read_text().replace("[storage]", f'[storage]\nledger_url = "{url}"'))
        server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        log = Path(str(server.url.query["host"])) / "log"
        try:
            node.start()
            time.sleep(SETTLED_SECONDS)
            with server.connect() as connection:
                connection.execute(sa.text("ALTER SYSTEM SET log_statement = 'all'"))
                connection.execute(sa.text("SELECT pg_reload_conf()"))
            time.sleep(1.0)
            begin = log.stat().st_size
            time.sleep(seconds)
            asked = statements(log.read_bytes()[begin:])
            ended = [asked["COMMIT"] / seconds, asked["ROLLBACK"] / seconds]
            print(f"{asked.total() / seconds:.0f} statements/s, {ended[0]:.1f} commits/s, {ended[1]:.1f} rollbacks/s")  # noqa: T201
            for text, number in asked.most_common(_SHOWN):
                print(f"{number / seconds:6.1f}  {text}")  # noqa: T201
        finally:
            node.kill()
            server.dispose()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
