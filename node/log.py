"""Logging as text or as one JSON object per line. Logs contain UIDs, never patient data.

Messages logged inside ``about(study)`` name the study and are also stored for its page on the dashboard.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_NOISY = ("pynetdicom", "pydicom", "dbos", "highdicom", "uvicorn", "httpx", "httpcore", "markdown_it", "PIL", "alembic")
"""Libraries whose messages below WARNING are not of interest."""
_SILENT = "pynetdicom.transport"
"""Repeats connection errors that its caller reports: two lines for each probe of a destination."""
_NO_SUBJECT: Mapping[str, str] = {}
_SUBJECT: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NO_SUBJECT)
_FILE_BYTES = 64 * 1024
"""Size of the current log file of a study, and of the previous one."""
_LINE_CHARACTERS = 8 * 1024
"""Longer messages and tracebacks are truncated in the study log."""


@contextmanager
def about(study: str = "", *, series: str = "", job: str = "") -> Iterator[None]:
    """Mark all messages of this thread as belonging to a study, a series of it, a job; ``""``: to none."""
    named = {"study": study, "series": series, "job": job}
    token = _SUBJECT.set({name: value for name, value in named.items() if value})
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def subject() -> Mapping[str, str]:
    """Return study, series and job that this thread works on, as far as known: the arguments of ``about``."""
    return _SUBJECT.get()


class Text(logging.Formatter):
    """Formats a message as text; appends the study unless the message names it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        study = subject().get("study")
        return f"{line} (study {study})" if study and study not in line else line


class Json(logging.Formatter):
    """``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, and ``study``, ``series``, ``job`` where known."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.entry(record), ensure_ascii=False)

    def entry(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record as a dictionary."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **subject(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return entry


class StudyLog(logging.Handler):
    """Appends messages about a study to ``STUDY.jsonl`` in a folder that all processes of a node share.

    Two files of 64 KiB for each study at most: a full one becomes ``STUDY.jsonl.1``, replacing the previous one. Lines
    are appended atomically (open(2), O_APPEND). They survive a restart; a power cut may lose the last ones.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._json = Json()
        folder.mkdir(parents=True, exist_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one message; errors of the disk are ignored, because the main log has it too."""
        entry = self._json.entry(record)
        if "study" not in entry:
            return
        short = {key: value[:_LINE_CHARACTERS] if isinstance(value, str) else value for key, value in entry.items()}
        line = json.dumps(short, ensure_ascii=False).encode(errors="replace") + b"\n"
        path = _file(self._folder, entry["study"])
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.write(descriptor, line)
                full = os.fstat(descriptor).st_size > _FILE_BYTES
            finally:
                os.close(descriptor)
            if full:
                path.replace(_rotated(path))


def study_lines(folder: Path, study: str, limit: int) -> list[dict[str, Any]]:
    """Return the last ``limit`` log entries of a study, oldest first.

    The keys are those of the JSON log and ``at``: seconds since 1970 UTC.
    """
    path = _file(folder, study)
    entries: list[dict[str, Any]] = []
    for file in (_rotated(path), path):
        with suppress(FileNotFoundError):
            for line in file.read_bytes().splitlines():
                with suppress(ValueError):  # the last line before a power cut
                    entry = json.loads(line)
                    entries.append({"at": datetime.fromisoformat(entry["time"]).timestamp(), **entry})
    return entries[-limit:]


def delete_study_log(folder: Path, study: str) -> None:
    """Delete the log of a study."""
    path = _file(folder, study)
    for file in (path, _rotated(path)):
        file.unlink(missing_ok=True)


def _file(folder: Path, study: str) -> Path:
    return folder / f"{study}.jsonl"


def _rotated(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def set_up(level: str, form: str) -> None:
    """Configure logging to standard error; ``form``: ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(_SILENT).setLevel(logging.CRITICAL)
