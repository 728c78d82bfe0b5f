"""Reading of packed files by another process, for receivers, which never import obstore.

``python -m node.object_store.fetch_process CONFIG PATH ...`` puts copies of packed files into the cache and prints
their places, one a line.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from node.config import Storage, load
from node.errors import AbsentStoreError, NodeError, PlatformError
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.packed_files import PackedFile, packed_files
from node.object_store.packed_reader import PackedReader
from node.object_store.store import Objects, open_objects
from node.spool.tiers import first_fault

_LONGEST_SECONDS = 120.0


class FetchProcess(PackedReader):
    """The tier of packs in a receiver: a process reads them, and what the ledger knows of them is not checked."""

    def __init__(self, storage: Storage, engine: Engine, config_path: str) -> None:
        super().__init__(storage, engine, _no_store)
        self._config_path = config_path

    def sizes(self, paths: Sequence[str]) -> dict[str, int | PlatformError]:
        """Return the size of each file in a verified pack; no receiver waits for the store."""
        return {path: of.size for path, of in self.packed(paths).items()}

    def read_packs(self, packed: Mapping[str, PackedFile]) -> dict[str, Path | PlatformError]:
        """Have files of packs put into the cache."""
        command = [sys.executable, "-m", "node.object_store.fetch_process", self._config_path, *packed]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return dict.fromkeys(packed, AbsentStoreError("the object store does not answer in time"))
        if done.returncode:
            return dict.fromkeys(
                packed, AbsentStoreError(done.stderr.strip()[-300:] or "the object store cannot be read")
            )
        return dict(zip(packed, map(Path, done.stdout.splitlines()), strict=True))


def _no_store() -> Objects:
    raise AbsentStoreError("this process does not read the object store")


def main(config_path: str, *paths: str) -> None:
    """Fetch files and print where their copies are. Raises ``NodeError``."""
    storage = load(Path(config_path)).storage
    engine = open_ledger(ledger_url(storage.ledger_url, storage.folder))
    with engine.connect() as connection:
        packed = packed_files(connection, paths)
    answers = PackedReader(storage, engine, partial(open_objects, storage.object_store)).read_packs(packed)
    if faults := [answer for answer in answers.values() if isinstance(answer, PlatformError)]:
        raise first_fault(faults)
    for path in paths:
        sys.stdout.write(f"{answers[path]}\n")
    engine.dispose()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except NodeError as error:
        sys.exit(str(error))
