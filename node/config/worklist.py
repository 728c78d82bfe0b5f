"""``[orders.worklist]``: the Modality Worklist that is asked for orders that no HL7 message brought."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.config.destination import DestinationTls, scp_place
from node.config.table import AeTitle, Port, Table


class Worklist(Table):
    """A Modality Worklist SCP of the RIS, and how long it is waited for."""

    title: AeTitle | Literal[""] = ""
    """AE title of the worklist."""
    host: str = ""
    """Host name or address of the worklist; empty: no worklist is asked."""
    port: Port = 104
    """DICOM port on ``host``."""
    wait_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Longest time that a series waits for the answer, after its last image or the question, whichever is later."""
    retry_hours: Annotated[float, Field(gt=0, le=720)] = 24.0
    """A worklist that does not answer is asked again for this long."""
    tls: DestinationTls = DestinationTls()

    @property
    def enabled(self) -> bool:
        """Whether a worklist is asked."""
        return bool(self.host)

    @property
    def place(self) -> str:
        """Description of the place, for messages."""
        return scp_place(self.title, self.host, self.port)

    @model_validator(mode="after")
    def _has_a_title(self) -> Worklist:
        if self.host and not self.title:
            raise ValueError("title is required with host")
        return self
