"""Acts of an operator on a trial: a candidate takes the place of its champion, and gives it back."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.errors import ConfigError
from node.ledger.audit_events import add_notice
from node.ledger.engine import begin_immediate
from node.ledger.promotions import promote, roll_back
from node.ledger.states import NoticeKind
from node.operate.stated_reason import stated_reason


def promote_candidate(
    config: Config, engine: sa.Engine, champion: str, candidate: str, *, reason: str, who: str
) -> None:
    """Let the results of a candidate be sent in the place of its champion's, which are kept in shadow.

    Raises ``ConfigError`` when no rule tries the candidate beside the champion, ``NodeError`` without a reason.
    """
    if not any(champion in rule.pipelines and candidate in rule.shadow for rule in config.rules):
        raise ConfigError(f"no rule has {champion!r} in pipelines and {candidate!r} in shadow")
    why = stated_reason(reason)
    with begin_immediate(engine) as connection:
        promote(connection, champion, candidate, who=who, reason=why)
        text = f"promoted pipeline {candidate} in the place of {champion}: {why}"
        add_notice(connection, NoticeKind.ACT, who=who, detail=text)


def roll_back_candidate(engine: sa.Engine, champion: str, *, reason: str, who: str) -> str:
    """Let the results of a champion be sent again; return the name of the candidate.

    Raises ``NodeError`` without a reason, or when no candidate was promoted.
    """
    why = stated_reason(reason)
    with begin_immediate(engine) as connection:
        ended = roll_back(connection, champion)
        text = f"rolled back pipeline {ended.candidate} to {champion}: {why}"
        add_notice(connection, NoticeKind.ACT, who=who, detail=text)
    return ended.candidate
