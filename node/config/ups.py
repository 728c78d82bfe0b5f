"""``[orders.ups]``: the UPS-RS worklist of another system whose workitems this node performs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from node.config.table import Name, Table


class UpsWorklist(Table):
    """A UPS-RS service, which of its workitems are asked for, and where their images come from."""

    url: str = ""
    """Base URL of the service, to which ``/workitems`` is appended; empty: none is asked."""
    token_file: str = ""
    """File with the bearer token; read at each look, so it can be renewed."""
    ca_file: str = ""
    """PEM file with the authority of its certificate; empty: the system's authorities."""
    query: dict[str, str] = Field(default_factory=dict)
    """Search keys besides Procedure Step State, such as ``WorklistLabel = "AI"``."""
    poll_seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """Time between two looks."""
    source: Name | Literal[""] = ""
    """Name of the ``[destinations.NAME]`` from which images are fetched that are not here; empty: they are sent."""
    wait_hours: Annotated[float, Field(gt=0, le=720)] = 24.0
    """A claimed workitem whose images do not come within this time is canceled."""
    update_method: Literal["POST", "PUT"] = "POST"
    """Method of updates: POST by PS3.18 11.6; some services expect PUT."""

    @property
    def enabled(self) -> bool:
        """Whether a worklist is asked."""
        return bool(self.url)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"url = {url!r}: give an address that begins with https:// or http://")
        return url
