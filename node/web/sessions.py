"""Sessions of the dashboard: a random token in a cookie, and in the ledger its hash.

Every browser gets a token, also before a login: the form's CSRF token is derived from it. A login replaces it, so a
token that somebody planted in a browser is never a session. The token of an ended session stays in its browser for a
month; it opens nothing, but attempts to log in from that browser are counted apart from others of the same address.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from hashlib import sha256

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from node.config import Web
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.sessions import Session, begin_session, end_session, mark_seen, purge_sessions, session_of
from node.web.users import User

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_REMEMBERED_SECONDS = 30 * 86400
_MARK_SECONDS = 60.0
"""How exactly the ledger knows when a session was last used."""


class Sessions:
    """Begins, finds and ends sessions; all processes that share the ledger share them."""

    def __init__(self, web: Web, engine: sa.Engine) -> None:
        self._engine = engine
        self._longest = web.session_hours * 3600
        self._idle = web.session_idle_minutes * 60
        encrypted = web.certificate is not None or web.link_base.startswith("https:")
        self.secure = encrypted or bool(web.proxy_header)
        """Whether browsers reach the dashboard encrypted."""
        self._cookie = "__Host-ainode" if self.secure else "ainode"

    def token_of(self, request: Request) -> str:
        """Return the token of the browser; a new one when it has none."""
        token = request.cookies.get(self._cookie, "")
        return token if _TOKEN.fullmatch(token) else secrets.token_urlsafe(32)

    def give(self, request: Request, response: Response, token: str) -> None:
        """Set the cookie, unless the browser has it."""
        if request.cookies.get(self._cookie) != token:
            response.set_cookie(
                self._cookie,
                token,
                max_age=_REMEMBERED_SECONDS,
                secure=self.secure,
                httponly=True,
                samesite="strict",
            )

    def find(self, token: str, *, is_used: bool) -> Session | None:
        """Return the session of a token unless it is over. ``is_used``: the user asked for something."""
        with self._engine.connect() as connection:
            session, at = session_of(connection, _hash(token)), ledger_clock(connection)
        if session is None or session.ended_at is not None:
            return None
        if at - session.began_at > self._longest or at - session.seen_at > self._idle:
            return None
        if is_used and at - session.seen_at > _MARK_SECONDS:
            # A ledger that takes no rows must not hide the pages that say so.
            with suppress(sa.exc.OperationalError), begin_immediate(self._engine) as connection:
                mark_seen(connection, _hash(token), at)
        return session

    def browser_of(self, token: str, name: str) -> str:
        """Return a name of the browser if this user was logged in with its token, even if that is over, or ""."""
        with self._engine.connect() as connection:
            session = session_of(connection, _hash(token))
        return f"browser {_hash(token)[:16]}" if session is not None and session.user == name else ""

    def begin(self, user: User) -> str:
        """Begin a session; return its token."""
        token = secrets.token_urlsafe(32)
        with begin_immediate(self._engine) as connection:
            at = ledger_clock(connection)
            purge_sessions(connection, at - max(_REMEMBERED_SECONDS, self._longest))
            begin_session(connection, _hash(token), user.name, user.stamp, at)
        return token

    def end(self, token: str) -> None:
        """End the session of a token."""
        with begin_immediate(self._engine) as connection:
            end_session(connection, _hash(token), ledger_clock(connection))


def csrf_of(token: str) -> str:
    """Return the CSRF token of every form that goes to the browser with this token."""
    return sha256(f"csrf {token}".encode()).hexdigest()


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
