"""Authentication and authorisation of requests, with CSRF protection. Every page is wrapped; none can skip it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from node.config import Web
from node.translation import gettext
from node.web.logins import Logins
from node.web.proxy import proxied_user
from node.web.return_path import login_path, page_path
from node.web.sessions import Sessions, csrf_of
from node.web.single_sign_on import SingleSignOn
from node.web.users import Role, User, read_users, users_path

MAX_FORM_BYTES = 65536
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class UserRequest:
    """An authorised request."""

    request: Request
    user: User
    csrf: str
    """Token that every form of this session carries."""
    form: dict[str, str] = field(default_factory=dict)

    @property
    def back(self) -> str:
        """Address of this page, to come back to; of the first page after a form."""
        return page_path(self.request) if self.request.method == "GET" else "/"

    @property
    def operates(self) -> bool:
        """Whether buttons that change something are shown."""
        return self.user.may("operate")

    @property
    def administers(self) -> bool:
        """Whether forms that change users are shown."""
        return self.user.may("admin")

    @property
    def reads(self) -> bool:
        """Whether buttons for verdicts are shown: an operator is no reader."""
        return self.user.role == "read"


def require(user: User, role: Role) -> None:
    """Raise ``HTTPException`` for a user who has not what a role has."""
    if not user.may(role):
        raise HTTPException(
            403, gettext("Your role is {own!r}; this needs the role {role!r}.", own=user.role, role=role)
        )


class Authenticator:
    """Authenticates requests by their session or their reverse proxy. A user removed from the file is out at once."""

    def __init__(self, web: Web, folder: Path, engine: sa.Engine) -> None:
        self._web = web
        self._path = users_path(web, folder)
        self._sessions = Sessions(web, engine)
        self._logins = Logins(self._path, engine, self._sessions)
        self.secure = self._sessions.secure
        self.single_sign_on = SingleSignOn(web) if web.oidc.issuer else None

    def let_in(self, page: Callable[[UserRequest], Response], role: Role = "operate") -> Endpoint:
        """Return an endpoint that shows ``page`` to authorised users. POST needs ``role`` and the token."""

        async def endpoint(request: Request) -> Response:
            user = await run_in_threadpool(self.user_of, request)
            if user is None:
                if "hx-request" in request.headers:  # a part of a page whose session has ended: the whole page leaves
                    return Response(status_code=204, headers={"HX-Redirect": "/login"})
                return RedirectResponse(login_path(page_path(request) if request.method == "GET" else "/"), 303)
            form: dict[str, str] = {}
            if request.method == "POST":
                form = await checked_form(request)
                require(user, role)
            csrf = csrf_of(request.state.token)
            return await run_in_threadpool(page, UserRequest(request=request, user=user, csrf=csrf, form=form))

        return self.with_token(endpoint)

    async def request_of_script(self, request: Request, role: Role) -> UserRequest:
        """Return the request that a script of one of our pages sent, its token in ``x-csrf-token``.

        Raises ``HTTPException`` for any other, and for a user without ``role``.
        """
        user = await run_in_threadpool(self.user_of, request)
        if user is None:
            raise HTTPException(401, gettext("Your session has ended. Log in and try again."))
        csrf = _checked_csrf(request, request.headers.get("x-csrf-token", ""))
        require(user, role)
        return UserRequest(request=request, user=user, csrf=csrf)

    def with_token(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint whose browser has a token, ``request.state.token``; ``endpoint`` may replace it."""

        async def with_cookie(request: Request) -> Response:
            request.state.token = self._sessions.token_of(request)
            response = await endpoint(request)
            self._sessions.give(request, response, request.state.token)
            return response

        return with_cookie

    def user_of(self, request: Request) -> User | None:
        """Return the user of a session, or the one named by the reverse proxy (default role *view*)."""
        users = read_users(self._path)
        if name := proxied_user(self._web, request):
            proxied = users.get(name) or User(name=name, role="view")
            if proxied.is_expired:
                raise HTTPException(
                    403, gettext("User {name!r} has expired; `ainode web expire` sets another day.", name=name)
                )
            return proxied
        session = self._sessions.find(request.state.token, is_used="part" not in request.query_params)
        if session is None:
            return None
        user = users.get(session.user)
        if user is None and self.single_sign_on is not None:
            user = self.single_sign_on.user_of(session.user, session.stamp)
        return None if user is None or session.stamp != user.stamp or user.is_expired else user

    async def log_in(self, request: Request, name: str, password: str) -> bool:
        """Begin a session; return whether name and password are right. Raises as ``Logins.log_in``."""
        user = await self._logins.log_in(name, password, address_of(request), request.state.token)
        if user is not None:
            request.state.token = await run_in_threadpool(self._sessions.begin, user)
        return user is not None

    def begin_session(self, request: Request, user: User) -> None:
        """Begin a session of a user whom the OpenID provider has named.

        Raises ``HTTPException`` when the users file has that name: whoever gives names there could become that user.
        """
        if user.name in read_users(self._path):
            raise HTTPException(
                403, gettext("{name} is a user of this node alone; log in with the password.", name=user.name)
            )
        request.state.token = self._sessions.begin(user)

    def log_out(self, request: Request) -> str:
        """End the session; return the name of its user, ``""`` when there is none."""
        user = self.user_of(request)
        self._sessions.end(request.state.token)
        return user.name if user is not None else ""


def address_of(request: Request) -> str:
    """Return the address of the browser, or of the proxy before it."""
    return request.client.host if request.client else ""


async def checked_form(request: Request) -> dict[str, str]:
    """The fields of a form that one of our pages sent. Raises ``HTTPException`` for any other."""
    if int(request.headers.get("content-length") or 0) > MAX_FORM_BYTES or "chunked" in request.headers.get(
        "transfer-encoding", ""
    ):
        raise HTTPException(413, gettext("The form is too large."))
    form = {key: value for key, value in (await request.form(max_files=0)).items() if isinstance(value, str)}
    _checked_csrf(request, form.get("csrf", ""))
    return form


def _checked_csrf(request: Request, given: str) -> str:
    """Return the token of the session. Raises ``HTTPException`` if a request was ``given`` another one."""
    csrf = csrf_of(request.state.token)
    if not hmac.compare_digest(given.encode(), csrf.encode()):
        raise HTTPException(403, gettext("This form is not of your session. Go back, reload the page and try again."))
    return csrf
