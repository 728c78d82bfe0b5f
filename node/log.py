"""Logs: lines for people, or one JSON object per line for machines. UIDs yes, patients never.

What is logged inside ``about(study)`` names that study, and is kept beside for the study's page.
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
"""Libraries that speak of their own doings below WARNING."""
_SILENT = "pynetdicom.transport"
"""Says of a destination that is down what its caller says as well: two lines for each probe."""
_NO_SUBJECT: Mapping[str, str] = {}
_SUBJECT: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NO_SUBJECT)
_FILE_BYTES = 64 * 1024
"""Of the newest lines of a study, and as much again of those before."""
_LINE_CHARACTERS = 8 * 1024
"""More of one message or traceback is for the log alone."""


@contextmanager
def about(study: str = "", *, series: str = "", job: str = "") -> Iterator[None]:
    """Everything that this thread logs within is about a study, a series of it, a job; ``""``: about none."""
    named = {"study": study, "series": series, "job": job}
    token = _SUBJECT.set({name: value for name, value in named.items() if value})
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def subject() -> Mapping[str, str]:
    """The study, series and job that this thread works for, as far as there are any: arguments of ``about``."""
    return _SUBJECT.get()


class Text(logging.Formatter):
    """A line for people; the study is named at its end where the message does not."""

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
        """The same as values."""
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
    """Appends what is about a study to ``STUDY.jsonl`` in a folder that all processes of a node share.

    Two files of 64 KiB for each study at most: a full one becomes ``STUDY.jsonl.1`` in place of the one before. Lines
    are appended whole (open(2), O_APPEND). They survive a restart; a power cut may take the last ones.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._json = Json()
        folder.mkdir(parents=True, exist_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """A disk that is full or gone takes nothing from the log itself."""
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
                path.replace(_before(path))


def study_lines(folder: Path, study: str, limit: int) -> list[dict[str, Any]]:
    """The last ``limit`` lines that ``StudyLog`` kept about a study, the oldest first.

    As in the JSON log, with ``at``: seconds since 1970 UTC.
    """
    path = _file(folder, study)
    found: list[dict[str, Any]] = []
    for one in (_before(path), path):
        with suppress(FileNotFoundError):
            for line in one.read_bytes().splitlines():
                with suppress(ValueError):  # the last line before a power cut
                    entry = json.loads(line)
                    found.append({"at": datetime.fromisoformat(entry["time"]).timestamp(), **entry})
    return found[-limit:]


def delete_study_log(folder: Path, study: str) -> None:
    """Delete what was kept about a study."""
    path = _file(folder, study)
    for one in (path, _before(path)):
        one.unlink(missing_ok=True)


def _file(folder: Path, study: str) -> Path:
    return folder / f"{study}.jsonl"


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def set_up(level: str, form: str) -> None:
    """Log to standard error from ``level`` on; ``form``: ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(_SILENT).setLevel(logging.CRITICAL)
