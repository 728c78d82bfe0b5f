"""The router's side of the body region: which series need it, who reads their pixels, and how long they wait for it.

Pixels are read by a confined process that decodes, one series at a time in a thread of its own, senders in turn: no
other series waits for it. A series waits a bounded time. When its pixels cannot be read by then its region is *unknown*
with the reason, and routing goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.config import Rule
from node.config.characteristics import BODY_REGION
from node.confined import Bounds, shared_process
from node.errors import NodeError
from node.ledger.clock_steps import AHEAD_SECONDS
from node.reasons import ReasonCode, reason
from node.routing.completeness import Deferral
from node.routing.series_examination import SeriesQuestion
from node.routing.slow_examinations import Key, SlowExaminations, SlowResult
from node.spool import Spool
from node.studies.characteristics import Characteristic, Characteristics
from node.studies.characteristics.characteristic import unknown

logger = logging.getLogger(__name__)

BOUNDS = Bounds(memory_mib=2048, cpu_seconds=30, wall_seconds=60.0)
"""Of one series: 12 slices of 512 x 512 and 400 headers take 0.5 s."""
WAIT_SECONDS = 300.0
"""Before a series is routed without it."""
_ATTEMPTS = 3
"""For one series: a machine may be busy, and a process may be killed for lack of memory."""
_LONGEST = 200
"""Characters of a failure in a basis."""


UNREAD = "pixels not read"
"""In the basis of a region that is *unknown* because of this machine, and not of what the pixels show."""


def recognize(paths: tuple[Path, ...]) -> Characteristic:
    """Return the region of the series in these files; for the confined process, which alone imports decoders."""
    from node.studies.body_region.recognition import body_region_of

    return body_region_of(paths)


def needs_body_region(trace: Sequence[Mapping[str, Any]], rules: Sequence[Rule]) -> bool:
    """Return whether a decision may depend on the region: a rule asks for it that nothing else keeps from matching.

    ``trace``: of ``node.routing.rules.decide``.
    """
    return bool(rules_that_ask(trace, rules))


def rules_that_ask(trace: Sequence[Mapping[str, Any]], rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules of which, or of a companion of which, all depends on the region."""
    by_name = {rule.name: rule for rule in rules}
    asking = {}
    for entry in trace:
        rule = by_name[entry["rule"]]
        selection = rule.companions[entry["companion"]] if "companion" in entry else rule
        others = [condition for condition in entry["conditions"] if condition["attribute"] != BODY_REGION]
        if all(condition["matched"] for condition in others) and (
            len(others) < len(entry["conditions"]) or selection.prefers_body_region
        ):
            asking[rule.name] = rule
    return list(asking.values())


@dataclass
class _Asked:
    paths: tuple[Path, ...]
    at: float
    """Seconds since 1970 UTC."""
    attempts: int = 1


class BodyRegions:
    """Regions of the series that are being received, each recognized once for the images that there are."""

    def __init__(self, spool: Spool) -> None:
        process = shared_process("body region reader", spool.data_folders, BOUNDS)
        self._examinations = SlowExaminations[Characteristic](
            lambda key, question: process.call(f"series {key[1]}", recognize, question.paths)
        )
        self._asked: dict[Key, _Asked] = {}
        self._known: dict[Key, tuple[tuple[Path, ...], Characteristic]] = {}

    def known(self, key: Key, paths: tuple[Path, ...]) -> Characteristics:
        """Return what the pixels of a series with these images show; nothing as long as they have not been read."""
        result = self._examinations.take(key)
        if result is not None and not (isinstance(result.outcome, NodeError) and self._tries_again(key, result)):
            outcome = result.outcome
            characteristic = unread(str(outcome)) if isinstance(outcome, NodeError) else outcome
            self._known[key] = (result.question.paths, characteristic)
        of, region = self._known.get(key, (None, None))
        return {BODY_REGION: region} if region is not None and of == paths else {}

    def wait(self, key: Key, question: SeriesQuestion, at: float) -> Deferral:
        """Have a series read whose region is not known; return until when it waits. Afterwards it is *unknown*."""
        asked = self._asked.get(key)
        if asked is None or asked.paths != question.paths:
            asked = self._asked[key] = _Asked(question.paths, at)
            self._submit(key, question)
        until = asked.at + WAIT_SECONDS
        if at >= until or asked.at > at + AHEAD_SECONDS:
            logger.warning("series %s: its pixels were not read within %g s", key[1], WAIT_SECONDS)
            self._known[key] = (question.paths, unread(f"within {WAIT_SECONDS:g} s"))
        return Deferral(about=reason(ReasonCode.BODY_REGION_AWAITED), seconds=WAIT_SECONDS, until=until)

    def _tries_again(self, key: Key, failed: SlowResult[Characteristic]) -> bool:
        asked = self._asked.get(key)
        logger.warning("series %s: its pixels were not read: %s", key[1], failed.outcome)
        if asked is None or asked.paths != failed.question.paths or asked.attempts >= _ATTEMPTS:
            return False
        asked.attempts += 1
        self._submit(key, failed.question)
        return True

    def _submit(self, key: Key, question: SeriesQuestion) -> None:
        sender = ", ".join(sorted({address for _, address in question.origin.senders}))
        self._examinations.submit(sender, key, question)

    def keep(self, keys: Collection[Key]) -> None:
        """Discard what is known of other series."""
        self._examinations.keep(keys)
        self._asked = {key: asked for key, asked in self._asked.items() if key in keys}
        self._known = {key: known for key, known in self._known.items() if key in keys}


def unread(why: str) -> Characteristic:
    """Return the region of a series whose pixels could not be read."""
    return unknown([(UNREAD, why[:_LONGEST])])
