"""The user that a reverse proxy has authenticated, believed only with the secret that proxy and node share.

An address proves nothing: every program of the proxy's machine has it, and so has every other proxy there.
"""

from __future__ import annotations

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request

from node.config import Web
from node.errors import ConfigError
from node.web.shared_secret import read_secret
from node.web.users import check_name

SECRET_HEADER = "X-Ainode-Proxy-Secret"  # noqa: S105 - a name


def proxied_user(web: Web, request: Request) -> str:
    """Return the name of the user, ``""`` when no proxy names one.

    Raises ``HTTPException`` for a name without the right secret, and ``ConfigError`` when the secret's file cannot be
    used.
    """
    names = request.headers.getlist(web.proxy_header) if web.proxy_header else []
    if not names:
        return ""
    given = request.headers.getlist(SECRET_HEADER)
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), _secret_of(web).encode()):
        raise HTTPException(
            403, f"{web.proxy_header} counts only with the right {SECRET_HEADER} ([web] proxy_secret_file)."
        )
    try:
        (name,) = names
        check_name(name)
    except (ValueError, ConfigError):
        raise HTTPException(403, f"{web.proxy_header} does not name one user.") from None
    return name


def _secret_of(web: Web) -> str:
    if web.proxy_secret_file is None:
        raise ConfigError("[web] proxy_header needs proxy_secret_file")
    return read_secret(web.proxy_secret_file, "[web] proxy_secret_file")
