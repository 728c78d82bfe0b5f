"""The login, with a password or at the hospital's OpenID provider, and the logout."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from node.ledger import NoticeKind
from node.ledger.audit_events import give_notice
from node.translation import gettext
from node.web.app_context import AppContext
from node.web.auth import Authenticator, address_of, checked_form
from node.web.return_path import local_path, login_path
from node.web.sessions import csrf_of
from node.web.single_sign_on import BACK, BegunLogin, SingleSignOn

_BEGUN = "ainode-login"
"""Cookie of a login that was begun at the provider."""
_BEGUN_SECONDS = 600
_AT_ONCE = 8
"""Logins that ask the provider at the same time: anybody can make the node ask it."""
logger = logging.getLogger(__name__)


def login_routes(context: AppContext, authenticator: Authenticator) -> Iterable[Route]:
    """Return the routes of login and logout."""
    pages = _LoginPages(context, authenticator)
    yield Route("/login", authenticator.with_token(pages.login), methods=["GET", "POST"])
    yield Route("/logout", authenticator.with_token(pages.logout), methods=["POST"])
    if provider := authenticator.single_sign_on:
        single = _SingleSignOnPages(context, authenticator, pages, provider)
        yield Route("/login/oidc", authenticator.with_token(single.begin))
        yield Route(BACK, authenticator.with_token(single.finish))


class _LoginPages:
    def __init__(self, context: AppContext, authenticator: Authenticator) -> None:
        self._context = context
        self._authenticator = authenticator
        provider = authenticator.single_sign_on
        self._provider = provider.host if provider is not None else ""

    def show(self, request: Request, following: str, problem: str = "", status: int = 200) -> HTMLResponse:
        """Return the login page. ``following``: the page to which a login leads."""
        values = {
            "csrf": csrf_of(request.state.token),
            "problem": problem,
            "provider": self._provider,
            "following": following,
            "login": login_path(following),
            "login_there": login_path(following, "/login/oidc"),
        }
        return HTMLResponse(self._context.render("login.html", None, **values), status)

    def refused(self, request: Request, error: HTTPException, following: str) -> HTMLResponse:
        answer = self.show(request, following, error.detail, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    async def note(self, request: Request, what: NoticeKind, name: str, detail: str = "") -> None:
        address = address_of(request)
        await run_in_threadpool(
            lambda: give_notice(self._context.engine, what, who=name[:64], address=address, detail=detail)
        )

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return self.show(request, _following(request))
        form = await checked_form(request)
        name, following = form.get("name", ""), local_path(form.get("next", "/"))
        try:
            is_right = await self._authenticator.log_in(request, name, form.get("password", ""))
        except HTTPException as error:
            return self.refused(request, error, following)
        await self.note(request, NoticeKind.LOGIN if is_right else NoticeKind.FAILED_LOGIN, name)
        if not is_right:
            return self.show(request, following, gettext("Name or password is wrong."), 403)
        return RedirectResponse(following, 303)

    async def logout(self, request: Request) -> Response:
        await checked_form(request)
        name = await run_in_threadpool(self._authenticator.log_out, request)
        if name:
            await self.note(request, NoticeKind.LOGOUT, name)
        return RedirectResponse("/login", 303)


class _SingleSignOnPages:
    def __init__(
        self, context: AppContext, authenticator: Authenticator, pages: _LoginPages, provider: SingleSignOn
    ) -> None:
        self._context = context
        self._authenticator = authenticator
        self._pages = pages
        self._provider = provider
        self._turns = anyio.Semaphore(_AT_ONCE)

    async def begin(self, request: Request) -> Response:
        begun = BegunLogin.new(_following(request))
        try:
            async with self._turns:
                answer = RedirectResponse(await self._provider.address_of(begun), 303)
        except HTTPException as error:
            _warn(error)
            return self._pages.refused(request, error, begun.following)
        # Not strict: the browser must send it when the site of the provider leads it back.
        answer.set_cookie(
            _BEGUN,
            begun.to_cookie(),
            max_age=_BEGUN_SECONDS,
            path=BACK,
            secure=self._authenticator.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def finish(self, request: Request) -> Response:
        begun = BegunLogin.from_cookie(request.cookies.get(_BEGUN, ""))
        name, following = "", begun.following if begun else "/"
        try:
            async with self._turns:
                claims = await self._provider.finish(request.query_params, begun)
            name = self._provider.name_in(claims)
            user = self._provider.user_in(claims)
            await run_in_threadpool(self._authenticator.begin_session, request, user)
        except HTTPException as error:
            _warn(error)
            if name:  # what nobody has signed is no attempt of a user
                await self._pages.note(request, NoticeKind.FAILED_LOGIN, name, error.detail)
            answer: Response = self._pages.refused(request, error, following)
        else:
            await self._pages.note(request, NoticeKind.LOGIN, name, f"at {self._provider.host}")
            # A redirect would still belong to the navigation of the other site, in which no strict cookie is sent.
            answer = HTMLResponse(self._context.render("logged_in.html", None, following=following))
        answer.delete_cookie(_BEGUN, path=BACK)
        return answer


def _following(request: Request) -> str:
    """Return the page to which a login leads."""
    return local_path(request.query_params.get("next", "/"))


def _warn(error: HTTPException) -> None:
    """Log what only the operator can mend; anybody may have caused the others."""
    if error.status_code == 502:
        logger.warning("login at the OpenID provider: %s", error.detail)
