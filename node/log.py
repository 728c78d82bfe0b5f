"""Logging as text or as one JSON object per line. Logs contain UIDs, never patient data.

Messages logged inside ``about(study)`` name the study and are also stored for its page on the dashboard; warnings and
errors are stored for the page *Log*. The formatters escape and bound what they write, because messages, exceptions and
warnings hold text of peers, files and models.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from node.peer_text import escaped, escaped_lines

_NOISY = ("pynetdicom", "pydicom", "dbos", "highdicom", "uvicorn", "httpx", "httpcore", "markdown_it", "PIL", "alembic")
"""Libraries whose messages below WARNING are not of interest."""
_SILENT = ("pynetdicom.acse", "pynetdicom.transport", "python_multipart")
"""Repeat errors that their caller reports, such as two lines for each probe of a destination."""
_NO_SUBJECT: Mapping[str, str] = {}
_SUBJECT: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NO_SUBJECT)
_FILE_BYTES = 64 * 1024
"""Size of the current log file of a study, and of the previous one."""
FOLDER = "logs"
"""Of the storage folder, for the files of ``StudyLog`` and ``WarningLog``."""
_WARNINGS = "warnings.log"
_WARNINGS_BYTES = 1024 * 1024
"""Size of the file of warnings, and of the previous one."""
_LINE_CHARACTERS = 8 * 1024
"""Longer tracebacks are truncated in the study log."""


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


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # else logging prints the arguments as they are
        return f"{record.msg} {record.args}"


class Text(logging.Formatter):
    """Formats a message as one line, followed by an indented traceback; appends the study unless it is named."""

    def format(self, record: logging.LogRecord) -> str:
        head, study = f"{self.formatTime(record)} {record.levelname} {record.name}: ", subject().get("study")
        message = escaped(_message(record))
        end = f" (study {escaped(study)})" if study and study not in message else ""
        lines = [f"{head}{message}{end}"]
        if record.exc_info:
            lines.append(escaped_lines(self.formatException(record.exc_info), "    "))
        return "\n".join(lines)


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
            "message": escaped(_message(record)),
            **{name: escaped(value) for name, value in subject().items()},
        }
        if record.exc_info:
            entry["traceback"] = escaped_lines(self.formatException(record.exc_info))
        return entry


class StudyLog(logging.Handler):
    """Appends messages about a study to ``STUDY.jsonl`` in a folder that all processes of a node share.

    Two files of 64 KiB for each study at most: a full one becomes ``STUDY.jsonl.1``, replacing the previous one. Lines
    are appended atomically (open(2), O_APPEND). They survive a restart; a power cut may lose the last ones. Only a
    study that ``exists`` has a log: peers name others in what they send, and retention would not find those.
    """

    def __init__(self, folder: Path, exists: Callable[[str], bool]) -> None:
        super().__init__()
        self._folder = folder
        self._exists = exists
        self._json = Json()
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one message; errors of the disk are ignored, because the main log has it too."""
        study = subject().get("study")
        if study is None or not self._exists(study):
            return
        _append(_file(self._folder, study), self._json.entry(record), _FILE_BYTES)


class WarningLog(logging.Handler):
    """Appends warnings and errors of all processes to one file of a folder, with the guarantees of ``StudyLog``.

    Two files of 1 MiB at most. The folder need not exist yet: until then nothing is appended.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.WARNING)
        self._path = folder / _WARNINGS
        self._json = Json()

    def emit(self, record: logging.LogRecord) -> None:
        """Append one message; errors of the disk are ignored, because the main log has it too."""
        _append(self._path, self._json.entry(record), _WARNINGS_BYTES)


def _append(path: Path, entry: Mapping[str, Any], most: int) -> None:
    """Add one line atomically; a file of more than ``most`` bytes then takes the place of the previous one."""
    short = {key: value[:_LINE_CHARACTERS] if isinstance(value, str) else value for key, value in entry.items()}
    line = json.dumps(short, ensure_ascii=False).encode() + b"\n"
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.write(descriptor, line)
            full = os.fstat(descriptor).st_size > most
        finally:
            os.close(descriptor)
        if full:
            path.replace(_rotated(path))


def study_lines(folder: Path, study: str, limit: int) -> list[dict[str, Any]]:
    """Return the last ``limit`` log entries of a study, oldest first.

    The keys are those of the JSON log and ``at``: seconds since 1970 UTC.
    """
    return _entries(_file(folder, study))[-limit:]


def warning_lines(folder: Path) -> list[dict[str, Any]]:
    """Return all warnings and errors that are stored, oldest first, with the keys of ``study_lines``."""
    return _entries(folder / _WARNINGS)


def _entries(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for file in (_rotated(path), path):
        with suppress(FileNotFoundError):
            for line in file.read_bytes().splitlines():
                with suppress(ValueError):  # the last line before a power cut
                    entry = json.loads(line)
                    entries.append({"at": datetime.fromisoformat(entry["time"]).timestamp(), **entry})
    return entries


def delete_study_log(folder: Path, study: str) -> None:
    """Delete the log of a study."""
    path = _file(folder, study)
    for file in (path, _rotated(path)):
        file.unlink(missing_ok=True)


def logged_studies(folder: Path) -> list[str]:
    """Return the studies that have a log."""
    return sorted({path.name.partition(".jsonl")[0] for path in folder.glob("*.jsonl*")})


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
    for silent in _SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)  # pydicom warns of values, and quotes them


def log_uncaught() -> None:
    """Log exceptions that end this process or a thread; Python would print them as they are."""

    def of_process(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        logging.getLogger(__name__).critical("the process ends", exc_info=(kind, error, at))

    def of_thread(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            error = ended.exc_value
            logging.getLogger(__name__).critical("a thread ends", exc_info=(type(error), error, error.__traceback__))

    sys.excepthook, threading.excepthook = of_process, of_thread
