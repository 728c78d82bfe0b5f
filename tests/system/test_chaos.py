"""Chaos: studies through a node whose processes are killed all the time. Nothing is lost and nothing is doubled.

``AINODE_CHAOS_STUDIES=200`` makes it the long run whose figures ``docs/reliability.md`` tells.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import postgres
import pytest
import real_peers
import sqlalchemy as sa
from chaos_studies import ANALYSED, IMAGES, RULES
from dicom_files import ct_series, mr_series, write
from whole_node import WholeNode

from node.ledger import ACTIVE
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import instance, job, result, series
from node.spool import dataset_offset

pytestmark = pytest.mark.rotating

STUDIES = int(os.environ.get("AINODE_CHAOS_STUDIES", "30"))
BATCH = 10
"""Studies of one association; a scanner sends all of them again until every image was answered with Success."""
KILLS = max(8, STUDIES // 8)
ROLES = ("receiver", "router", "worker", "sender")


class Killer(threading.Thread):
    """kill -9 of a role every few seconds, now and then of everything."""

    def __init__(self, node: WholeNode) -> None:
        super().__init__(daemon=True)
        self.kills = 0
        self._node = node
        self._dice = random.Random(7)
        self._ended = threading.Event()

    def run(self) -> None:
        while self.kills < KILLS and not self._ended.wait(self._dice.uniform(1.0, 5.0)):
            if self._dice.random() < 0.1:
                self._node.kill()
                self._node.start()
                self.kills += 1
                continue
            with suppress(AssertionError):  # the role is just not running
                self._node.kill_role(self._dice.choice(ROLES))
                self.kills += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


def send_until_taken(node: WholeNode, folder: Path, deadline: float) -> None:
    while True:
        command = ("storescu", "-aec", "AINODE", "+sd", "+r", "127.0.0.1", node.port, folder)
        if real_peers.dcmtk(*command, timeout=120.0, check=False).returncode == 0:
            return
        assert time.monotonic() < deadline, node.log()[-3000:]
        time.sleep(0.5)


def wait_until_routed(node: WholeNode, engine: sa.Engine, studies: int, deadline: float, *, done: bool) -> None:
    """Until so many series are routed; ``done``: and no job is left. Late images make more jobs than series."""
    active = sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(ACTIVE))
    complete = sa.select(sa.func.count()).select_from(series).where(series.c.state == "COMPLETE")
    while True:
        with engine.connect() as connection:
            routed, left = connection.scalar(complete) or 0, connection.scalar(active) or 0
        if routed >= studies and not (done and left):
            return
        assert time.monotonic() < deadline, f"{routed} series routed, {left} jobs left\n{node.log()[-3000:]}"
        time.sleep(1.0)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_studies_survive_kills_of_every_process(
    database: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ""
    if database == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), "chaos")
    files: dict[str, Path] = {}
    for number in range(STUDIES):
        images = (mr_series if number % ANALYSED else ct_series)(IMAGES, 16)
        folder = tmp_path / "scanner" / str(number // BATCH) / str(number)
        files |= {str(d.SOPInstanceUID): path for d, path in zip(images, write(images, folder), strict=True)}
    started = time.monotonic()
    with real_peers.orthanc(tmp_path) as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port)
        text = node.config.read_text().replace("min_free_gib = 0.0", f'min_free_gib = 0.0\nledger_url = "{url}"')
        node.config.write_text(text[: text.index("[[rules]]")] + RULES)
        node.start()
        killer = Killer(node)
        killer.start()
        try:
            for batch in range(STUDIES // BATCH):
                send_until_taken(node, tmp_path / "scanner" / str(batch), started + 600.0)
            engine = open_ledger(ledger_url(url, node.folder))
            wait_until_routed(node, engine, STUDIES // 2, started + 900.0, done=False)
            killer.join(max(0.0, started + 1000.0 - time.monotonic()))  # returns after the last kill
            wait_until_routed(node, engine, STUDIES, started + 1200.0, done=True)
            with engine.connect() as connection:
                received = connection.execute(sa.select(instance.c.sop_instance_uid, instance.c.path)).all()
                due = [*files, *connection.scalars(sa.select(result.c.sop_instance_uid))]
                reported = set(
                    connection.scalars(sa.select(job.c.study_instance_uid).join(result, result.c.job_id == job.c.id))
                )
            engine.dispose()
            held = pacs.instances()
            told = [node.ainode(verb) for verb in ("account", "verify")]
        finally:
            killer.end()
            node.kill()
    lost, doubled = set(due) - set(held), len(held) - len(set(held) & set(due))
    table = f"{'database':12} studies  kills  lost  doubled  seconds\n{database:12} {STUDIES:7} {killer.kills:6} "
    with capsys.disabled():
        print(f"\n{table}{len(lost):5} {doubled:8} {time.monotonic() - started:8.0f}")  # noqa: T201 - the proof is shown
    assert {row.sop_instance_uid for row in received} == set(files)
    for row in received:
        kept, sent = node.folder / row.path, files[row.sop_instance_uid]
        assert kept.read_bytes()[dataset_offset(kept) :] == sent.read_bytes()[dataset_offset(sent) :]
    assert len(due) == len(set(due))
    assert len(reported) == STUDIES // ANALYSED
    assert (lost, doubled) == (set(), 0)
    assert killer.kills == KILLS
    assert [command.returncode for command in told] == [0, 0], [command.stdout for command in told]
