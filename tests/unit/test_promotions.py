"""Promotion and rollback: which of champion and candidate is sent, decided once for each generation of a series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from ledgers import open_copy

from node.config import parse
from node.errors import ConfigError, NodeError
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.jobs import NewJob, get_job
from node.ledger.promotions import active_promotions, promotions
from node.ledger.states import ShadowCause
from node.ledger.tables import notice
from node.operate.trial_acts import promote_candidate, roll_back_candidate
from node.routing.promoted_routes import promoted_routes, with_promotions
from node.routing.rules import Route

CONFIG = parse(
    '[pipelines.a]\n[pipelines.b]\n[pipelines.c]\n[destinations.pacs]\ntitle = "P"\nhost = "h"\nport = 1\n'
    '[[rules]]\nname = "r"\npipelines = ["a"]\nshadow = ["b", "c"]\ndestinations = ["pacs"]\n'
)
SENT = Route(pipeline="a", rule="r", destinations=("pacs",), priority=2)
TRIED = Route(pipeline="b", rule="r", destinations=("pacs",), priority=2, shadow=ShadowCause.TRIAL)
OTHER = Route(pipeline="c", rule="r", destinations=("pacs",), priority=2, shadow=ShadowCause.TRIAL)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.dispose()


def decide(engine: sa.Engine, series: str, generation: int = 1) -> list[str]:
    """Make the jobs of a generation as the router does; return the pipelines whose results are sent."""
    with begin_immediate(engine) as connection:
        jobs = [
            NewJob(study_instance_uid="1.2", series_instance_uid=series, generation=generation, **asdict(route))
            for route in promoted_routes(connection, "1.2", series, (SENT, TRIED, OTHER))
        ]
        for new in jobs:
            create_job(connection, new)
        made = [get_job(connection, new.id) for new in jobs]
    assert {job.priority for job in made if job.shadow} == {4}
    return [job.pipeline for job in made if job.shadow is None]


def promote(engine: sa.Engine, candidate: str, champion: str = "a") -> None:
    promote_candidate(CONFIG, engine, champion, candidate, reason="better", who="anna")


def test_one_of_both_is_sent_before_and_after_promotion_and_rollback(engine: sa.Engine):
    assert decide(engine, "1") == ["a"]
    promote(engine, "b")
    assert decide(engine, "2") == ["b"]
    promote(engine, "c")
    assert decide(engine, "3") == ["c"]
    assert roll_back_candidate(engine, "a", reason="worse", who="anna") == "c"
    assert decide(engine, "4") == ["a"]
    with engine.connect() as connection:
        assert active_promotions(connection) == []
        assert {promotion.candidate for promotion in promotions(connection)} == {"b", "c"}
        acts = connection.execute(sa.select(notice.c.who, notice.c.detail)).all()
    assert [who for who, _ in acts] == ["anna"] * 3
    assert acts[-1].detail == "rolled back pipeline c to a: worse"


def test_who_answered_for_a_series_answers_for_its_late_images(engine: sa.Engine):
    assert decide(engine, "1") == ["a"]
    promote(engine, "b")
    assert decide(engine, "1", 2) == ["a"]
    assert decide(engine, "2") == ["b"]
    roll_back_candidate(engine, "a", reason="worse", who="anna")
    assert decide(engine, "2", 2) == ["b"]


def test_a_champion_without_its_candidate_beside_it_is_sent(engine: sa.Engine):
    promote(engine, "b")
    with engine.connect() as connection:
        known = promotions(connection)
    assert with_promotions((SENT,), known, ()) == [SENT]
    elsewhere = Route(pipeline="b", rule="another", destinations=("pacs",), priority=2, shadow=ShadowCause.TRIAL)
    assert with_promotions((SENT, elsewhere), known, ()) == [SENT, elsewhere]


def test_only_a_candidate_of_a_rule_is_promoted_once_with_a_reason(engine: sa.Engine):
    with pytest.raises(ConfigError, match="no rule has 'b' in pipelines and 'a' in shadow"):
        promote(engine, "a", champion="b")
    with pytest.raises(NodeError, match="give a reason"):
        promote_candidate(CONFIG, engine, "a", "b", reason=" ", who="anna")
    promote(engine, "b")
    with pytest.raises(NodeError, match="'b' answers for 'a' already"):
        promote(engine, "b")
    roll_back_candidate(engine, "a", reason="worse", who="anna")
    with pytest.raises(NodeError, match="no candidate answers for 'a'"):
        roll_back_candidate(engine, "a", reason="worse", who="anna")
    promote(engine, "b")
