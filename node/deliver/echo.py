"""C-ECHO to a destination: it can be reached and knows us, or why not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from node.config import Destination
from node.deliver.association import Peer, Timeouts, associate
from node.errors import DeliveryError


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The answer of ``ainode check`` for one destination."""

    ok: bool
    seconds: float
    """From opening the connection to its release."""
    reason: str
    """Empty when ``ok``; else what is wrong and what to do."""


def echo(name: str, destination: Destination, calling_title: str, timeouts: Timeouts | None = None) -> Echo:
    """Send one C-ECHO to ``[destinations.name]`` as ``calling_title``. Does not raise: the answer says it all."""
    peer = Peer.of(name, destination)
    start = time.monotonic()
    reason = ""
    try:
        with associate(peer, calling_title, [build_context(Verification)], timeouts or Timeouts()) as association:
            response = association.send_c_echo()
            if "Status" not in response:
                reason = f"{peer}: took the association but did not answer C-ECHO; look at its log"
            elif response.Status != 0x0000:
                reason = f"{peer}: answered C-ECHO with status 0x{response.Status:04X}; look at its log"
    except DeliveryError as error:
        reason = str(error)
    return Echo(ok=not reason, seconds=time.monotonic() - start, reason=reason)
