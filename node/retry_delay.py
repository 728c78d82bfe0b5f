"""The delay before the next attempt: it doubles with each failure in a row, up to a limit.

For deliveries ``node.deliver.deliverer`` gives the limits of the destination, for stages ``node.ledger.jobs`` those of
``[jobs]``, for logins ``node.ledger.login_attempts`` its own. A destination that is down
(``node.ledger.destination_circuits``) is not tried again but probed, by ``node.deliver.destination_watch``.
"""

from __future__ import annotations

_DOUBLINGS = 60
"""Beyond this many the delay is always at its limit; the bound keeps the float finite."""


def retry_delay(failures: int, first_seconds: float, max_seconds: float) -> float:
    """Return the seconds to wait after ``failures`` in a row, 1 or more."""
    return float(min(first_seconds * 2.0 ** min(failures - 1, _DOUBLINGS), max_seconds))
