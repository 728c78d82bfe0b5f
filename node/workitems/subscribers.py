"""Which application entities may be told of workitems, where, and of which. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pydicom import Dataset

from node.config import Ae, Caller, Config
from node.ledger.workitem_progress import WorkitemProgress
from node.ledger.workitem_subscriptions import Subscriber
from node.workitems.attributes import attributes_of
from node.workitems.matching import matches


def subscriber_address(ae: Ae, title: str) -> Caller | None:
    """Return the caller to whom events for an AE are sent; ``None``: it has no ``host``, or may not use workitems."""
    known = (
        caller
        for caller in ae.callers
        if caller.title.strip() == title and caller.host and "workitems" in caller.services
    )
    return next(known, None)


def may_subscribe(ae: Ae, *, calling: str, device: str, title: str) -> bool:
    """Return whether a caller may change the subscriptions of an AE: its own, or those of its ``group``.

    ``device``: as ``node.receive.policy.Admission`` names it.
    """
    if calling.strip() == title:
        return True
    return any(
        caller.title.strip() == title and caller.group and device == f"group {caller.group}" for caller in ae.callers
    )


def wants(uid: str, workitem: WorkitemProgress, config: Config) -> Callable[[Subscriber], bool]:
    """Return what says whether a workitem is one of those that an AE has subscribed to by a global subscription."""

    def is_wanted(of: Subscriber) -> bool:
        if of.every_since is not None:
            return True
        if of.matching_since is None or of.keys is None:
            return False
        return matches(Dataset.from_json(dict(of.keys)), attributes_of(uid, workitem, config))

    return is_wanted
