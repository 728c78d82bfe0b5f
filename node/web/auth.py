"""Authentication and authorisation of requests, with CSRF protection. Every page is wrapped; none can skip it."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.config import Web
from node.web.users import User, matches, read_users, users_path

MAX_FORM_BYTES = 65536
TRIES, TRIES_SECONDS = 5, 60.0
"""Failed logins of one address or for one name before it has to wait, and how long they count."""
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, kw_only=True)
class UserRequest:
    """An authorised request."""

    request: Request
    user: User
    csrf: str
    """Token that every form of this session carries."""
    form: dict[str, str] = field(default_factory=dict)

    @property
    def operates(self) -> bool:
        """Whether buttons that change something are shown."""
        return self.user.role == "operate"


class Authenticator:
    """Authenticates users and sessions. A user removed from the file is out at the next request."""

    def __init__(self, web: Web, folder: Path) -> None:
        self._web = web
        self._path = users_path(web, folder)
        self._failed: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def let_in(self, page: Callable[[UserRequest], Response]) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that shows ``page`` to authorised users. POST needs the role *operate* and the token."""

        async def endpoint(request: Request) -> Response:
            user = await run_in_threadpool(self.user_of, request)
            if user is None:
                if "hx-request" in request.headers:  # a part of a page whose session has ended: the whole page leaves
                    return Response(status_code=204, headers={"HX-Redirect": "/login"})
                return RedirectResponse("/login", 303)
            user_request = UserRequest(request=request, user=user, csrf=token_of(request))
            if request.method == "POST":
                user_request = UserRequest(
                    request=request, user=user, csrf=user_request.csrf, form=await checked_form(request)
                )
                if not user_request.operates:
                    raise HTTPException(403, "Your role is 'view'; this needs the role 'operate'.")
            return await run_in_threadpool(page, user_request)

        return endpoint

    def user_of(self, request: Request) -> User | None:
        """Return the user of a session, or the one named by the reverse proxy (default role *view*)."""
        users = read_users(self._path)
        name = self._web.proxy_header and request.headers.get(self._web.proxy_header)
        if name and request.client is not None and request.client.host == self._web.proxy_address:
            return users.get(name) or User(name=name, role="view")
        user = users.get(request.session.get("user", ""))
        return user if user is not None and request.session.get("stamp") == user.stamp else None

    def log_in(self, request: Request, name: str, password: str) -> str:
        """Begin a session; return why not, or ``""``."""
        address = request.client.host if request.client else ""
        if self._waits(name, address):
            return f"Too many failed logins. Wait {TRIES_SECONDS:g} seconds."
        user = read_users(self._path).get(name)
        if not matches(user, password) or user is None:
            with self._lock:
                for key in (f"user {name[:64]}", f"address {address}"):
                    self._failed.setdefault(key, []).append(time.monotonic())
            return "Name or password is wrong."
        request.session.clear()
        request.session.update({"user": user.name, "stamp": user.stamp})
        return ""

    def _waits(self, name: str, address: str) -> bool:
        since = time.monotonic() - TRIES_SECONDS
        with self._lock:
            recent = {key: [t for t in times if t > since] for key, times in self._failed.items()}
            self._failed = {key: times for key, times in recent.items() if times}
            return any(len(self._failed.get(k, ())) >= TRIES for k in (f"user {name[:64]}", f"address {address}"))


def token_of(request: Request) -> str:
    """Return the session's CSRF token; create it if there is none."""
    if "csrf" not in request.session:
        request.session["csrf"] = secrets.token_urlsafe(24)
    return str(request.session["csrf"])


async def checked_form(request: Request) -> dict[str, str]:
    """The fields of a form that one of our pages sent. Raises ``HTTPException`` for any other."""
    if int(request.headers.get("content-length") or 0) > MAX_FORM_BYTES or "chunked" in request.headers.get(
        "transfer-encoding", ""
    ):
        raise HTTPException(413, "The form is too large.")
    form = {key: value for key, value in (await request.form(max_files=0)).items() if isinstance(value, str)}
    if not hmac.compare_digest(form.get("csrf", "").encode(), token_of(request).encode()):
        raise HTTPException(403, "This form is not of your session. Go back, reload the page and try again.")
    return form


class Guarded:
    """Adds security headers to every response, including errors."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._headers = {**_HEADERS, **({"strict-transport-security": "max-age=31536000"} if tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k.encode(), v.encode()) for k, v in self._headers.items()]
                if not scope["path"].startswith("/static/"):
                    headers.append((b"cache-control", b"no-store"))  # patient data stays out of the browser's disk
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self._app(scope, receive, guarded)
