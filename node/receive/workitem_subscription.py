"""UPS Watch SOP Class as SCP (PS3.4 CC.2.3): who wants to be told of which workitems.

The subscription is durable before N-ACTION is answered. ``node.deliver.workitem_events`` sends the events.
"""

from __future__ import annotations

import json
import logging

from pydicom.dataset import Dataset
from sqlalchemy import Engine

from node.config import Config
from node.ledger.workitem_subscriptions import Terms
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.status_codes import (
    INAPPROPRIATE_ACTION,
    INVALID_ARGUMENT,
    MISSING_ATTRIBUTE,
    NO_SUCH_WORKITEM,
    NOT_AUTHORIZED,
    SUCCESS,
    UNKNOWN_RECEIVER,
)
from node.workitems.job_uid import JobUids
from node.workitems.matching import OF_IMAGES, keys_with_values
from node.workitems.subscribers import may_subscribe, subscriber_address
from node.workitems.subscription_change import (
    EVERY,
    MATCHING,
    SubscriptionAction,
    SubscriptionChange,
    change_subscription,
)

LOGGER = logging.getLogger(__name__)

SUBSCRIBE, UNSUBSCRIBE, SUSPEND = SubscriptionAction
_NO_KEYS = ("ReceivingAE", "DeletionLock")
_LONGEST_KEYS = 1 << 16
"""Characters of the matching keys as JSON."""


class WorkitemSubscription:
    """Answers N-ACTION requests about subscriptions."""

    def __init__(self, config: Config, engine: Engine, uids: JobUids) -> None:
        self._config = config
        self._engine = engine
        self._uids = uids

    def action(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Change the subscriptions of Receiving AE (0074,1234)."""
        title = str(request.dataset.get("ReceivingAE") or "").strip()
        lock = str(request.dataset.get("DeletionLock") or "").strip().upper()
        of = request.sop_instance_uid
        if request.type_id == SUSPEND and of not in (EVERY, MATCHING):
            return NormalizedAnswer(status=INAPPROPRIATE_ACTION, comment="only global subscriptions are suspended")
        if not title or (request.type_id == SUBSCRIBE and lock not in ("TRUE", "FALSE")):
            return NormalizedAnswer(status=MISSING_ATTRIBUTE, comment="Receiving AE or Deletion Lock missing")
        if subscriber_address(self._config.ae, title) is None:
            comment = "address of Receiving AE is not known, or it may not use UPS"
            return NormalizedAnswer(status=UNKNOWN_RECEIVER, comment=comment)
        if not may_subscribe(self._config.ae, calling=request.calling_ae, device=request.equipment, title=title):
            comment = "Receiving AE is another device"
            refused = f"subscription of {title} to workitems: {comment}"
            return NormalizedAnswer(status=NOT_AUTHORIZED, comment=comment, refused=refused)
        return self._keys_refused(request) or self._changed(request, title, is_locked=lock == "TRUE")

    def _keys_refused(self, request: NormalizedRequest) -> NormalizedAnswer | None:
        if request.type_id != SUBSCRIBE or request.sop_instance_uid != MATCHING:
            return None
        keys = _keys(request.dataset)
        named = list(keys_with_values(keys))
        if not named:
            return NormalizedAnswer(status=MISSING_ATTRIBUTE, comment="no matching key has a value")
        if of_image := next((key for key in named if key.startswith(OF_IMAGES)), ""):
            return NormalizedAnswer(status=INVALID_ARGUMENT, comment=f"{of_image} is not compared"[:64])
        if len(json.dumps(keys.to_json_dict(suppress_invalid_tags=True))) > _LONGEST_KEYS:
            return NormalizedAnswer(status=INVALID_ARGUMENT, comment="too many matching keys")
        return None

    def _changed(self, request: NormalizedRequest, title: str, *, is_locked: bool) -> NormalizedAnswer:
        action = SubscriptionAction(request.type_id)
        change = SubscriptionChange(
            action=action,
            uid=request.sop_instance_uid,
            title=title,
            who=request.calling_ae,
            address=request.address,
            keys=_keys(request.dataset) if action == SUBSCRIBE else None,
            terms=Terms(locked=is_locked),
        )
        detail = change_subscription(self._engine, self._uids, change)
        if not detail:
            return NormalizedAnswer(status=NO_SUCH_WORKITEM, comment="no such workitem")
        LOGGER.info("%s %s", request.calling_ae, detail)
        return NormalizedAnswer(status=SUCCESS)


def _keys(information: Dataset) -> Dataset:
    keys = Dataset()
    for element in information:
        if element.keyword not in _NO_KEYS:
            keys[element.tag] = element
    return keys
