"""The page that a login leads to: the one that was asked for, and never one of another site."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

from starlette.requests import Request

_LOCAL = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1000}")
"""ASCII without spaces, tabs and backslashes, which browsers drop or read as slashes (WHATWG URL, 4.4)."""


def page_path(request: Request) -> str:
    """Return path and query of the page that a request is for, in ASCII."""
    query = quote(request.scope["query_string"], safe="%/:?@!$&'()*+,;=[]")
    return quote(request.scope["path"]) + (f"?{query}" if query else "")


def local_path(text: str) -> str:
    """Return a path of the dashboard as it is, and ``/`` for anything else, such as an address of another site."""
    return text if _LOCAL.fullmatch(text) else "/"


def login_path(text: str, login: str = "/login") -> str:
    """Return the path of the login that leads to the page ``text``, a ``local_path``, afterwards."""
    following = local_path(text)
    return login if following == "/" else f"{login}?{urlencode({'next': following})}"
