"""Messages to the service manager."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

_SECONDS = 2.0
"""How long a service manager that does not read may delay its sender."""


def notify(*assignments: str) -> None:
    """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` or ``STATUS=...`` to ``$NOTIFY_SOCKET``; nothing without it.

    A message that cannot be delivered is logged and dropped: work goes on without a service manager. Source:
    sd_notify(3). A name that begins with ``@`` is in the abstract namespace.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(_SECONDS)
        try:
            channel.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            logger.warning("%s not reported to the service manager: %s", assignments[0], error)
