"""Changes of subscriptions to workitems (PS3.4 CC.2.3), as both DIMSE and UPS-RS ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pydicom import Dataset
from pynetdicom.sop_class import UPSFilteredGlobalSubscriptionInstance, UPSGlobalSubscriptionInstance
from sqlalchemy import Connection, Engine

from node.ledger import NoticeKind
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.workitem_subscriptions import (
    PLAIN,
    Terms,
    subscribe,
    subscribe_to_all,
    subscribe_to_matching,
    suspend,
    unsubscribe,
    unsubscribe_from_all,
)
from node.workitems.job_uid import JobUids
from node.workitems.known_workitem import known_workitem, workitem_key

EVERY, MATCHING = UPSGlobalSubscriptionInstance, UPSFilteredGlobalSubscriptionInstance
"""Well-known UIDs in place of that of a workitem: all of them, and those that match keys."""
_ABOUT = {EVERY: "all workitems", MATCHING: "workitems that match its keys"}


class SubscriptionAction(IntEnum):
    """Action Type IDs (PS3.4 table CC.2-1)."""

    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    SUSPEND = 5


_WORDS = {
    SubscriptionAction.SUBSCRIBE: "subscribed",
    SubscriptionAction.UNSUBSCRIBE: "unsubscribed",
    SubscriptionAction.SUSPEND: "suspended the subscription of",
}


@dataclass(frozen=True, kw_only=True)
class SubscriptionChange:
    """A change that was found to be allowed."""

    action: SubscriptionAction
    uid: str
    """Of a workitem, ``EVERY`` or ``MATCHING``."""
    title: str
    """AE that is subscribed."""
    who: str
    """Who asks for it."""
    address: str
    terms: Terms = PLAIN
    """Of a new subscription."""
    keys: Dataset | None = None
    """Of a filtered global subscription."""


def change_subscription(engine: Engine, uids: JobUids, change: SubscriptionChange) -> str:
    """Change a subscription durably, with an entry of the audit trail; return it, ``""``: no such workitem."""
    workitem = None if change.uid in _ABOUT else known_workitem(engine, uids, change.uid)
    if workitem is None and change.uid not in _ABOUT:
        return ""
    detail = f"{_WORDS[change.action]} {change.title}: {_ABOUT.get(change.uid, f'workitem {change.uid}')}"
    with begin_immediate(engine) as connection:
        if workitem is None:
            _change_global(connection, change)
        elif change.action == SubscriptionAction.SUBSCRIBE:
            subscribe(connection, change.title, workitem_key(change.uid, workitem), change.terms)
        else:
            unsubscribe(connection, change.title, workitem_key(change.uid, workitem))
        add_notice(connection, NoticeKind.ACT, who=change.who, address=change.address, detail=detail)
    return detail


def _change_global(connection: Connection, change: SubscriptionChange) -> None:
    is_matching = change.uid == MATCHING
    if change.action == SubscriptionAction.SUSPEND:
        suspend(connection, change.title, matching=is_matching)
    elif change.action == SubscriptionAction.UNSUBSCRIBE:
        unsubscribe_from_all(connection, change.title, matching=is_matching)
    elif is_matching:
        keys = (change.keys or Dataset()).to_json_dict(suppress_invalid_tags=True)
        subscribe_to_matching(connection, change.title, keys, change.terms)
    else:
        subscribe_to_all(connection, change.title, change.terms)
