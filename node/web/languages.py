"""The language of a page: the user's choice, else that of ``[web] language``, else what the browser asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from babel.core import negotiate_locale
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from node.config import Web
from node.translation import LANGUAGES, InterfaceLanguage, gettext, in_language
from node.web.auth import Authenticator, checked_form
from node.web.return_path import local_path

_COOKIE = "ainode-language"
_REMEMBERED_SECONDS = 365 * 86400


class Languages:
    """Has every page, also that of an error, speak the language of its user."""

    def __init__(self, app: ASGIApp, *, web: Web) -> None:
        self._app = app
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            chosen = cookie_parser(headers.get("cookie", "")).get(_COOKIE, "")
            with in_language(language_of(chosen, self._web.language, headers.get("accept-language", ""))):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def language_of(chosen: str, configured: str, accepted: str) -> InterfaceLanguage:
    """Return the first of the user's choice, the configured language and ``accepted`` that the dashboard has.

    ``accepted``: Accept-Language (RFC 9110 12.5.4), which may hold anything.
    """
    for code in (chosen, configured):
        if code in LANGUAGES:
            return code
    wanted = [tag.replace("-", "_") for tag in _by_weight(accepted)]
    return cast("InterfaceLanguage", negotiate_locale(wanted, list(LANGUAGES)) or "en")


def _by_weight(accepted: str) -> list[str]:
    weights: dict[str, float] = {}
    for part in accepted[:500].split(","):
        tag, _, weight = part.replace(" ", "").partition(";q=")
        try:
            weights[tag] = float(weight or 1)
        except ValueError:
            continue
    return sorted((tag for tag in weights if weights[tag] > 0), key=lambda tag: -weights[tag])


def language_routes(authenticator: Authenticator) -> Iterable[Route]:
    """Return the route of the choice of a language, which needs no login."""

    async def choose(request: Request) -> Response:
        form = await checked_form(request)
        language, back = form.get("language", ""), form.get("back", "")
        if language not in LANGUAGES:
            raise HTTPException(400, gettext("There is no language {language!r}.", language=language))
        response = RedirectResponse(local_path(back), 303)
        response.set_cookie(
            _COOKIE,
            language,
            max_age=_REMEMBERED_SECONDS,
            secure=authenticator.secure,
            httponly=True,
            samesite="lax",
        )
        return response

    yield Route("/language", authenticator.with_token(choose), methods=["POST"])
