"""Logs: lines for people, or one JSON object per line for machines. UIDs yes, patients never."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

_NOISY = ("pynetdicom", "pydicom", "dbos", "highdicom", "uvicorn", "httpx", "httpcore", "markdown_it", "PIL")
"""Libraries that speak of their own doings below WARNING."""
_NAMED = {
    "study": re.compile(r"\bstudy ([0-9][0-9.]+[0-9])"),
    "series": re.compile(r"\bseries ([0-9][0-9.]+[0-9])"),
    "job": re.compile(r"\bjob ([0-9a-f]{16})\b"),
}
"""How our messages name what they are about."""


class Json(logging.Formatter):
    """``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, and ``study``, ``series``, ``job`` where named."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": message,
            **{key: found[1] for key, pattern in _NAMED.items() if (found := pattern.search(message))},
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Log to standard error from ``level`` on; ``form``: ``text`` or ``json``."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(Json() if form == "json" else text)
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
