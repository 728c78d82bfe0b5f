"""``[orders]``: HL7 version 2 messages of the information system (RIS, HIS): orders, merged patients; its worklist."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from node.config.network import AeTls
from node.config.table import Port, Table
from node.config.ups import UpsWorklist
from node.config.worklist import Worklist


class Orders(Table):
    """The listener for HL7 messages, and what is taken from them."""

    enabled: bool = False
    """Listen for messages."""
    address: str = "0.0.0.0"  # noqa: S104 - the information system calls from outside
    """Address to listen on; ``127.0.0.1`` for this machine only."""
    port: Port = 2575
    """TCP port of the listener (MLLP)."""
    senders: tuple[str, ...] = ()
    """Addresses or networks that may connect; needed when the listener is enabled."""
    accession: Literal["OBR-2", "OBR-3", "OBR-18", "OBR-19", "OBR-20"] = "OBR-18"
    """Field with the accession number; IPC-1 is taken first where a message has it."""
    patient_id_authority: str = ""
    """Assigning authority of the patient ID that the images have (PID-3.4); empty: the first ID of type MR or PI."""
    max_message_mib: Annotated[float, Field(gt=0, le=64)] = 1.0
    """Largest message; a larger one is rejected."""
    days: Annotated[float, Field(gt=0)] = 30.0
    """Delete an order this many days after its last message."""
    tls: AeTls = AeTls()
    """MLLP over TLS; the same keys as ``[ae.tls]``."""
    worklist: Worklist = Worklist()
    ups: UpsWorklist = UpsWorklist()

    @property
    def are_expected(self) -> bool:
        """Whether orders may come, from messages or from a worklist: then the numbers in images are kept."""
        return self.enabled or self.worklist.enabled or self.ups.enabled

    @field_validator("senders")
    @classmethod
    def _senders(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            ipaddress.ip_network(value, strict=False)
        return values

    @model_validator(mode="after")
    def _somebody_sends(self) -> Orders:
        if self.enabled and not self.senders:
            raise ValueError("senders is empty; list the addresses or networks of the information system")
        return self
