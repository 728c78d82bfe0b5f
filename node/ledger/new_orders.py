"""What a message of the information system says, as values for the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from node.ledger.order_keys import OrderKeys, OrderState


@dataclass(frozen=True, kw_only=True)
class NewOrder:
    """One order of a message."""

    keys: OrderKeys
    procedure_code: str = ""
    procedure: str = ""
    priority: str = ""
    """One of ``ORDER_PRIORITIES``; empty: not stated."""
    reason: str = ""
    state: OrderState = OrderState.ACTIVE


@dataclass(frozen=True, kw_only=True)
class ReportStatus:
    """A report (ORU) on an order."""

    keys: OrderKeys
    status: str
    """OBR-25 (table 0123)."""


@dataclass(frozen=True, kw_only=True)
class NewPatientChange:
    """An update of a patient, or a merge."""

    patient_id: str
    patient_issuer: str
    prior_id: str = ""
    """The ID that ends; empty: an update."""
    prior_issuer: str = ""


@dataclass(frozen=True, kw_only=True)
class OrderMessage:
    """What a message says that the node uses."""

    orders: tuple[NewOrder, ...] = ()
    reports: tuple[ReportStatus, ...] = ()
    changes: tuple[NewPatientChange, ...] = ()
