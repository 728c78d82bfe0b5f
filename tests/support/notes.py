"""Folders by which pipelines and tests share files, although the pipelines are confined."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from node.inference import model_processes

NOTES = Path(tempfile.mkdtemp(prefix="notes"))
"""Given to pipelines as their folder for compiled code. Any user may write there: they may have one of their own."""
NOTES.chmod(0o777)
atexit.register(shutil.rmtree, NOTES, ignore_errors=True)


@contextmanager
def shared_notes() -> Iterator[Path]:
    """Share a folder with the pipelines of every process that is started meanwhile."""
    folder = Path(tempfile.mkdtemp(dir=NOTES))
    folder.chmod(0o777)
    with patch.object(model_processes, "_cache", lambda _definition: NOTES):
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
