"""Addresses of studies and objects in responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection


@dataclass(frozen=True)
class Addresses:
    """Addresses as the client that asks sees them."""

    base: str
    """Without a slash at its end."""

    @classmethod
    def of(cls, request: HTTPConnection, link_base: str) -> Addresses:
        """``link_base``: of the configuration; empty: the address of the request."""
        return cls((link_base or str(request.base_url)).rstrip("/"))

    def has_origin(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request is from no page, or from a page that is served under the same name.

        A browser lets a page of any site open a WebSocket and send a request without a body, with the credentials that
        it has; a reverse proxy may add the token.
        """
        origin = headers.get("origin")
        return origin is None or _place(origin) == _place(self.base)

    def events(self, title: str) -> str:
        """Return the address at which a subscriber opens its WebSocket (PS3.18 8.10.4)."""
        scheme, _, rest = self.base.partition("://")
        return f"{'wss' if scheme in ('https', 'wss') else 'ws'}://{rest}/subscribers/{quote(title)}"

    def study(self, study: str) -> str:
        """Return the address of a study."""
        return f"{self.base}/studies/{study}"

    def series(self, study: str, series: str) -> str:
        """Return the address of a series."""
        return f"{self.study(study)}/series/{series}"

    def instance(self, study: str, series: str, instance: str) -> str:
        """Return the address of an object."""
        return f"{self.series(study, series)}/instances/{instance}"


def _place(address: str) -> tuple[str | None, int | None]:
    """Name and port of an address; the scheme may be another one behind a reverse proxy."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.port or {"https": 443, "wss": 443, "http": 80, "ws": 80}.get(parts.scheme)
    except ValueError:
        return None, None
