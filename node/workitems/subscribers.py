"""Which application entities may be told of workitems, and where. Pure."""

from __future__ import annotations

from node.config import Ae, Caller


def subscriber_address(ae: Ae, title: str) -> Caller | None:
    """Return the caller to whom events for an AE are sent; ``None``: it has no ``host``, or may not use workitems."""
    known = (one for one in ae.callers if one.title.strip() == title and one.host and "workitems" in one.services)
    return next(known, None)


def may_subscribe(ae: Ae, *, calling: str, device: str, title: str) -> bool:
    """Return whether a caller may change the subscriptions of an AE: its own, or those of its ``group``.

    ``device``: as ``node.receive.policy.Admission`` names it.
    """
    if calling.strip() == title:
        return True
    return any(one.title.strip() == title and one.group and device == f"group {one.group}" for one in ae.callers)
