"""kill -9 of the process that tells subscribers of workitems, at every report: none is left out."""

from __future__ import annotations

import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import events_process
from pynetdicom import evt
from receivers import until
from ups_watcher import EVERY, SUBSCRIBE, Watched, Watcher, act
from workitem_scene import RULE

from node.ledger.states import JobStage, JobState


class Killer(Watcher):
    """A subscriber at which the sender dies when a report is there, not yet answered; a repeated one is answered."""

    process: BaseProcess | None = None
    killed = 0

    def taken(self, event: evt.Event) -> tuple[int, None]:
        answer = super().taken(event)
        seen = [(uid, kind, str(of.get("ProcedureStepState"))) for uid, kind, of in self.events]
        if self.process is not None and self.process.pid is not None and seen.count(seen[-1]) == 1:
            os.kill(self.process.pid, signal.SIGKILL)
            self.killed += 1
        return answer


def test_no_report_is_left_out_although_the_sender_is_killed_between_row_and_answer(tmp_path: Path) -> None:
    watcher = Killer()
    scene = Watched(tmp_path, watcher, RULE)
    scene.take()
    scene.wait(11.0)
    (job,) = scene.jobs()
    with scene.peer() as peer:
        assert act(peer, SUBSCRIBE, EVERY) == 0x0000

    def has(state: str) -> bool:
        if watcher.process is None or not watcher.process.is_alive():
            watcher.process = events_process.start(scene.config)
        return [str(of.get("ProcedureStepState")) for _, _, of in watcher.events].count(state) > 1

    with watcher.listening():
        try:
            until(lambda: has("SCHEDULED"), seconds=120.0)
            scene.set_job(job.id, state=JobState.IN_PROGRESS)
            until(lambda: has("IN PROGRESS"), seconds=120.0)
            scene.set_job(job.id, stage=JobStage.DELIVER, state=JobState.COMPLETED, outcome="findings")
            until(lambda: has("COMPLETED"), seconds=120.0)
        finally:
            if watcher.process is not None:
                watcher.process.kill()
                watcher.process.join()
    assert watcher.killed >= 4
    states = [str(of.ProcedureStepState) for _, kind, of in watcher.events if kind == 1]
    assert list(dict.fromkeys(states)) == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
