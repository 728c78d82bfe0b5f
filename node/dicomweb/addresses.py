"""Addresses of studies and objects in responses."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True)
class Addresses:
    """Addresses as the client that asks sees them."""

    base: str
    """Without a slash at its end."""

    @classmethod
    def of(cls, request: Request, link_base: str) -> Addresses:
        """``link_base``: of the configuration; empty: the address of the request."""
        return cls((link_base or str(request.base_url)).rstrip("/"))

    def study(self, study: str) -> str:
        """Return the address of a study."""
        return f"{self.base}/studies/{study}"

    def series(self, study: str, series: str) -> str:
        """Return the address of a series."""
        return f"{self.study(study)}/series/{series}"

    def instance(self, study: str, series: str, instance: str) -> str:
        """Return the address of an object."""
        return f"{self.series(study, series)}/instances/{instance}"
