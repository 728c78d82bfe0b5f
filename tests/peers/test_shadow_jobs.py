"""Jobs in shadow on a real DBOS: they are the least urgent, yield the device, and no destination gets anything."""

from __future__ import annotations

import time
from pathlib import Path

import postgres
import pytest
from job_node import JobNode, config_of

from node.ledger.states import ShadowCause

SLEEP = 15.0
"""Seconds that the candidate takes."""


def started(node: JobNode, job_id: str) -> int:
    return [what for what, _ in node.events(job_id)].count("infer started")


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_a_candidate_yields_to_the_champion_and_is_analysed_afterwards_for_no_destination(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = ""
    if where == "postgresql":
        url = postgres.new_database(request.getfixturevalue("postgres_server"), tmp_path.name.lower())
    pipelines = {"champion": {"does": "findings"}, "candidate": {"does": "sleep", "seconds": SLEEP}}
    with JobNode(config_of(tmp_path, url, pipelines=pipelines, trust_group="")).working() as node:
        study, series = node.receive()
        alone = time.monotonic()
        node.wait(node.enqueue(pipeline="champion"))
        alone = time.monotonic() - alone
        tried = node.enqueue_for(study, series, destinations=("pacs",), pipeline="candidate", shadow=ShadowCause.TRIAL)
        assert node.job(tried).priority == 4
        node.wait(tried, lambda _job: started(node, tried) == 1)
        time.sleep(1.0)
        beside = time.monotonic()
        champion = node.wait(node.enqueue(pipeline="champion"))
        beside = time.monotonic() - beside
        assert champion.outcome == "findings"
        assert beside < alone + 5.0
        kept = node.wait(tried)
        assert (kept.outcome, kept.shadow, kept.attempt) == ("findings", "trial", 0)
        assert started(node, tried) == 2
        assert "infer yielded" in dict(node.events(tried))
        assert len(node.results(tried)) == 2
        delivered = {uid for line in node.delivered() for uid in line.split()[1:]}
        assert delivered.isdisjoint(one.sop_instance_uid for one in node.results(tried))
        assert ("kept in shadow", "sent to no destination (trial)") in node.events(tried)
