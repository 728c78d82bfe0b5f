"""Subscribe, Unsubscribe and Suspend Global Subscription (PS3.18 11.10 to 11.12).

The ledger keeps the subscriptions next to those over DIMSE; the events of one that was made here go over a WebSocket.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from pydicom import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from node.config import Config
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.dicomweb.search_keys import SearchKeys
from node.dicomweb.subscriber_title import title_refused
from node.dicomweb.workitem_search import KEYS_OF_STEP
from node.errors import InputError
from node.ledger.workitem_subscriptions import PLAIN, Terms
from node.workitems.job_uid import JobUids
from node.workitems.subscription_change import (
    EVERY,
    MATCHING,
    SubscriptionAction,
    SubscriptionChange,
    change_subscription,
)

logger = logging.getLogger(__name__)

_LOCK = "deletionlock"
_FILTER = "filter"
_OF_EVERY_REQUEST = ("accept", "charset")
"""Query parameters that change nothing here (PS3.18 8.3.3)."""


class WorkitemSubscriptions:
    """Answers requests about subscriptions."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        self._link_base = config.dicomweb.link_base
        self._engine = engine
        self._uids = JobUids(engine)

    async def subscribe(self, request: Request, client: Client) -> Response:
        """Subscribe the AE title of the client; 201 when the subscription is durable."""
        return await run_in_threadpool(self._subscribe, request, client)

    async def unsubscribe(self, request: Request, client: Client) -> Response:
        """End a subscription."""
        return await run_in_threadpool(self._changed, request, client, SubscriptionAction.UNSUBSCRIBE)

    async def suspend(self, request: Request, client: Client) -> Response:
        """Subscribe to no more workitems."""
        return await run_in_threadpool(self._changed, request, client, SubscriptionAction.SUSPEND)

    def _subscribe(self, request: Request, client: Client) -> Response:
        is_locked, keys = _parameters(request)
        terms = Terms(websocket=True, locked=is_locked)
        refused = self._changed(request, client, SubscriptionAction.SUBSCRIBE, keys, terms)
        if refused.status_code != 200:
            return refused
        events = Addresses.of(request, self._link_base).events(request.path_params["aetitle"])
        return Response(status_code=201, headers={"content-location": events})

    def _changed(
        self,
        request: Request,
        client: Client,
        action: SubscriptionAction,
        keys: Dataset | None = None,
        terms: Terms = PLAIN,
    ) -> Response:
        uid, title = request.path_params["workitem"], request.path_params["aetitle"]
        if not Addresses.of(request, self._link_base).has_origin(request.headers):
            return PlainTextResponse("Pages of other sites change no subscriptions.\n", 403)
        refused = title_refused(client, title)
        if refused is not None:
            return refused
        if action == SubscriptionAction.SUSPEND and uid not in (EVERY, MATCHING):
            return PlainTextResponse("Only global subscriptions are suspended.\n", 400)
        change = SubscriptionChange(
            action=action,
            uid=uid,
            title=title,
            who=client.name,
            address=request.client.host if request.client else "",
            terms=terms,
            keys=keys,
        )
        detail = change_subscription(self._engine, self._uids, change)
        if not detail:
            return PlainTextResponse("This node has no such workitem.\n", 404)
        logger.info("DICOMweb: %s %s", client.name, detail)
        return Response(status_code=200)


def _parameters(request: Request) -> tuple[bool, Dataset | None]:
    """Whether a deletion lock is asked for, and the keys of a filter. Raises ``HTTPException``."""
    query = [pair for pair in request.query_params.multi_items() if pair[0] not in _OF_EVERY_REQUEST]
    locks = [value for name, value in query if name == _LOCK]
    if len(locks) > 1 or any(lock not in ("true", "false") for lock in locks):
        raise HTTPException(400, f"{_LOCK} is true or false.")
    rest = [pair for pair in query if pair[0] != _LOCK]
    if request.path_params["workitem"] != MATCHING:
        if rest:
            raise HTTPException(400, f"{rest[0][0][:64]!a} is no parameter of this subscription.")
        return locks == ["true"], None
    try:
        wanted = SearchKeys.of([pair for given in rest for pair in _pairs(*given)], KEYS_OF_STEP).wanted
    except InputError as error:
        raise HTTPException(400, f"{error}.") from error
    if not wanted:
        raise HTTPException(400, f"A filtered subscription needs {_FILTER} with a matching key.")
    return locks == ["true"], _identifier(wanted)


def _pairs(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Split ``filter``, a list of attribute=value; other parameters are keys themselves, as PS3.18 of 2019 had them.

    A comma in a value, as in a list of UIDs, is followed by no attribute.
    """
    if name != _FILTER:
        yield name, value
        return
    pairs: list[list[str]] = []
    for part in value.split(","):
        key, is_pair, text = part.partition("=")
        if is_pair:
            pairs.append([key.strip(), text])
        elif pairs:
            pairs[-1][1] += f",{part}"
        else:
            raise HTTPException(400, f"{_FILTER} is a list of attribute=value.")
    yield from ((key, text) for key, text in pairs)


def _identifier(wanted: Mapping[str, tuple[str, ...]]) -> Dataset:
    """Matching keys as the identifier of a C-FIND has them."""
    identifier = Dataset()
    for path, texts in wanted.items():
        *sequences, keyword = path.split(".")
        of = identifier
        for sequence in sequences:
            if sequence not in of:
                setattr(of, sequence, [Dataset()])
            of = of[sequence].value[0]
        setattr(of, keyword, list(texts) if len(texts) > 1 else texts[0])
    return identifier
