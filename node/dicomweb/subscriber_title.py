"""The AE titles that a client may subscribe to workitems, and whose events it may receive: its own."""

from __future__ import annotations

import re

from starlette.responses import PlainTextResponse, Response

from node.dicomweb.authorization import Client

_AE_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")
"""As PS3.5 6.2 has it, without spaces at its ends."""


def title_refused(client: Client, title: str) -> Response | None:
    """Return the refusal of an AE title; ``None``: it is that of the client."""
    if not _AE_TITLE.fullmatch(title):
        return PlainTextResponse("The address names no AE title.\n", 400)
    if title != client.settings.title:
        text = f"The AE title of this client is not {title}; it is title of [dicomweb.clients.{client.name}].\n"
        return PlainTextResponse(text, 403)
    return None
