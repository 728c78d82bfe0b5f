"""Promotions and rollbacks while studies arrive and processes are killed: every study is answered once, by one version.

``AINODE_CHAOS_STUDIES=200`` sends as many studies.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.uid import generate_uid
from whole_node import WholeNode, whole_node

from node.config.loader import load
from node.ledger import ACTIVE
from node.ledger.clock import clock_of
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.states import JobState, ShadowCause
from node.ledger.tables import job, result
from node.operate.trial_acts import promote_candidate, roll_back_candidate

pytestmark = pytest.mark.rotating

STUDIES = int(os.environ.get("AINODE_CHAOS_STUDIES", "12"))
MOST = 5 * STUDIES
"""Until both have answered: a router that is killed again and again may decide on many studies between two acts."""
ROLES = ("router", "worker", "sender")
CHAMPION, CANDIDATE = "bright", "bright-2"
PIPELINES = f'[pipelines.{CANDIDATE}]\nfactory = "bright_pipeline:create"\n'
RULE = f'shadow = ["{CANDIDATE}"]'


class Repeated(threading.Thread):
    """Calls a function again and again, at random times, until it ends."""

    def __init__(self, function: Callable[[random.Random], None], least: float, most: float) -> None:
        super().__init__(daemon=True)
        self.calls = 0
        self._function = function
        self._between = least, most
        self._dice = random.Random(11)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._dice.uniform(*self._between)):
            self._function(self._dice)
            self.calls += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@dataclass
class Acts:
    """Promotions and rollbacks in turn, with the time in which each was made."""

    node: WholeNode
    engine: sa.Engine
    made: list[tuple[float, float, str]] = field(default_factory=lambda: [(0.0, 0.0, CHAMPION)])
    """Seconds before and after, by the clock of the ledger, and who answers then."""

    def next_act(self, _dice: random.Random) -> None:
        before, (_, _, answers) = clock_of(self.engine), self.made[-1]
        if answers == CHAMPION:
            config = load(self.node.config)
            promote_candidate(config, self.engine, CHAMPION, CANDIDATE, reason="better", who="anna")
        else:
            roll_back_candidate(self.engine, CHAMPION, reason="worse", who="anna")
        self.made.append((before, clock_of(self.engine), CANDIDATE if answers == CHAMPION else CHAMPION))

    def answering(self, at: float) -> set[str]:
        """Who may have answered for a series that was decided at this time: both, while an act was being made."""
        last = max(number for number, (before, _, _) in enumerate(self.made) if before <= at)
        _, after, answers = self.made[last]
        return {answers} if at > after or last == 0 else {answers, self.made[last - 1][2]}


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path) as running:
        yield running


def kill_one(node: WholeNode, dice: random.Random) -> None:
    with suppress(AssertionError):  # the role is just not running
        node.kill_role(dice.choice(ROLES))


def wait_until(condition: Callable[[Counter[str]], bool], node: WholeNode, engine: sa.Engine, seconds: float) -> None:
    """Until the numbers of jobs by state meet a condition."""
    deadline = time.monotonic() + seconds
    while True:
        with engine.connect() as connection:
            states = Counter(connection.scalars(sa.select(job.c.state)))
        if condition(states):
            return
        assert time.monotonic() < deadline, f"{states}\n{node.log()[-3000:]}"
        time.sleep(0.5)


def have_answered(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(sa.select(job.c.pipeline).where(job.c.shadow.is_(None))))


def send_study(node: WholeNode, folder: Path) -> str:
    study = str(generate_uid())
    write(ct_series(volume=with_lesion((4, 32, 32)), study=study), folder / study)
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder / study)
    return study


@pytest.mark.timeout(1500)
def test_every_study_is_answered_once_by_the_version_that_answered_when_it_was_decided(
    pacs: real_peers.Orthanc, tmp_path: Path
):
    studies: set[str] = set()
    with whole_node(tmp_path / "node", pacs.dicom_port, extra=PIPELINES, rule=RULE) as node:
        engine = open_ledger(ledger_url("", node.folder))
        acts = Acts(node, engine)
        killing = Repeated(lambda dice: kill_one(node, dice), 2.0, 6.0)
        acting = Repeated(acts.next_act, 0.2, 1.5)
        for thread in (acting, killing):
            thread.start()
        try:
            while len(studies) < STUDIES or (have_answered(engine) < {CHAMPION, CANDIDATE} and len(studies) < MOST):
                studies.add(send_study(node, tmp_path / "scanner"))
                time.sleep(random.uniform(0.0, 1.0))  # as the next patient
            # what is under way meets kills and acts until all is decided and half of it done
            wait_until(
                lambda of: of.total() >= 2 * len(studies) and of[JobState.COMPLETED] >= len(studies),
                node,
                engine,
                600.0,
            )
        finally:
            acting.end()
            killing.end()
        wait_until(lambda of: not any(of[state] for state in ACTIVE), node, engine, 900.0)
        account = node.ainode("account")
        with engine.connect() as connection:
            rows = connection.execute(sa.select(job)).all()
            made = connection.execute(sa.select(result.c.job_id, result.c.sop_instance_uid)).all()
        engine.dispose()
        held = Counter(str(pacs.download(uid).SOPInstanceUID) for uid in pacs.instances())
    sent, tried = ([row for row in rows if row.shadow == shadow] for shadow in (None, ShadowCause.TRIAL))
    assert Counter(row.study_instance_uid for row in sent) == Counter(studies)
    assert Counter(row.study_instance_uid for row in tried) == Counter(studies)
    assert len(rows) == 2 * len(studies)
    assert {row.state for row in rows} == {JobState.COMPLETED}
    for row in sent:
        assert row.pipeline in acts.answering(row.created_at), f"{row.created_at}: {acts.made}"
    answers = {row.id for row in sent}
    assert held == Counter(uid for job_id, uid in made if job_id in answers)
    assert {job_id for job_id, _ in made} == {row.id for row in rows}
    assert {row.pipeline for row in sent} == {CHAMPION, CANDIDATE}
    assert "Everything is accounted for." in account.stdout
    assert min(killing.calls, acting.calls) >= 3
