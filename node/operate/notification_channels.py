"""The ways by which people hear of something at once: mail and a webhook (``[notify]``)."""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from node.bounded_answers import bound_answers
from node.config import Config
from node.errors import ConfigError

_TIMEOUT_SECONDS = 30.0
UNSENT = (OSError, smtplib.SMTPException, httpx.HTTPError, ConfigError)
"""Raised when a message was not taken."""


@dataclass(frozen=True, kw_only=True)
class PdfFile:
    """A PDF file that a mail carries."""

    name: str
    content: bytes


def send_mail(
    config: Config, subject: str, text: str, *, to: Sequence[str] = (), attached: PdfFile | None = None
) -> None:
    """Send a mail; ``to``: addresses, without any ``mail_to``. Raises one of ``UNSENT``."""
    wanted = config.notify
    message = EmailMessage()
    message["From"], message["To"] = wanted.mail_from, ", ".join(to or wanted.mail_to)
    message["Subject"] = f"[{config.ae.title}] {subject}"
    message.set_content(text + "\n")
    if attached is not None:
        message.add_attachment(attached.content, maintype="application", subtype="pdf", filename=attached.name)
    with smtplib.SMTP(wanted.smtp_host, wanted.smtp_port, timeout=_TIMEOUT_SECONDS) as server:
        if wanted.smtp_starttls:
            server.starttls(context=ssl.create_default_context())
        if wanted.smtp_password_file is not None:
            server.login(wanted.smtp_user, _content(wanted.smtp_password_file))
        server.send_message(message)


def post_to_webhook(config: Config, body: Mapping[str, Any]) -> None:
    """Post ``body`` as JSON, with the title of the node. Raises one of ``UNSENT``."""
    content = json.dumps({"node": config.ae.title, **body})
    headers = {"content-type": "application/json"}
    try:
        with bound_answers(httpx.Client(timeout=_TIMEOUT_SECONDS)) as client:
            answer = client.post(_webhook(config), content=content, headers=headers)
    except httpx.InvalidURL as error:
        key = "webhook" if config.notify.webhook_file is None else f"webhook_file {config.notify.webhook_file}"
        raise ConfigError(f"[notify] {key}: it is no address that can be used; correct it") from error
    if not answer.is_success:  # the message of httpx has the address, which may be a secret
        raise httpx.HTTPError(f"HTTP {answer.status_code}")


def check_files(config: Config) -> None:
    """Raise ``ConfigError`` or ``OSError`` when a file of ``[notify]`` cannot be used."""
    if config.notify.webhook_file is not None:
        _webhook(config)
    if config.notify.smtp_password_file is not None:
        _content(config.notify.smtp_password_file)


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _webhook(config: Config) -> str:
    """Return the address, from its file at each use: a renewed one counts at once."""
    path = config.notify.webhook_file
    if path is None:
        return config.notify.webhook
    address = _content(path)
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"[notify] webhook_file {path}: write an address into it that begins with https:// or http://"
        )
    return address
