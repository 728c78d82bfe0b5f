"""``ainode plan``: queues as theory has them, and what follows for machines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from analysis_facts import facts
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from node.__main__ import main
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.ledger.tables import series
from node.operate.capacity.requirements import Site, plan
from node.operate.capacity.simulation import Servers, served, simulate
from node.operate.capacity.workload import PlannedAnalysis, Workload

SITE = Site(retention_days=14, within_seconds=600, quiet_seconds=30, senders=8, other_roles=7)


def workload(studies: float = 2740, seconds: tuple[float, ...] = (15.0,), share: float = 1.0) -> Workload:
    chest = PlannedAnalysis(pipeline="nodule", share=share, seconds=seconds)
    return Workload(studies=studies, busiest_hour=0.125, images=500, image_mib=0.5, analyses=(chest,))


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("variation", [0, 1])
def test_one_device_waits_as_pollaczek_and_khinchine_say(busy: float, variation: int):
    """Mean wait of M/G/1: rho s (1 + c^2) / (2 (1 - rho)), for times without (D) and with variation (M)."""
    rng, count, mean = np.random.default_rng(7), 400_000, 10.0
    ready = np.cumsum(rng.exponential(mean / busy, count))
    seconds = rng.exponential(mean, count) if variation else np.full(count, mean)
    waited = served(ready, seconds, 1) - seconds - ready
    assert waited.mean() == pytest.approx(busy * mean * (1 + variation) / (2 * (1 - busy)), rel=0.06)


def test_several_devices_wait_as_erlang_says():
    """Mean wait of M/M/c: C(c, a) s / (c - a), with Erlang's C."""
    rng, count, servers, offered, mean = np.random.default_rng(8), 400_000, 4, 3.2, 10.0
    ready = np.cumsum(rng.exponential(mean / offered, count))
    seconds = rng.exponential(mean, count)
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    waits = last / (sum(terms) + last)
    waited = served(ready, seconds, servers) - seconds - ready
    assert waited.mean() == pytest.approx(waits * mean / (servers - offered), rel=0.06)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0.1, 50)), min_size=1, max_size=40), st.integers(1, 5))
def test_no_server_works_on_two_tasks(tasks: list[tuple[float, float]], servers: int):
    ready, seconds = np.array(tasks).T
    ends = served(ready, seconds, servers)
    begins = ends - seconds
    assert (begins >= ready - 1e-9).all()
    assert max(((begins <= at + 1e-9) & (ends > at + 1e-9)).sum() for at in begins) <= servers


def test_an_idle_node_takes_what_its_stages_take():
    servers = Servers(devices=1, encoders=1, senders=1, quiet_seconds=30, encode_seconds=2, deliver_seconds=3)
    simulation = simulate(workload(studies=8), servers)
    assert simulation.quantiles[0.5] == pytest.approx(30 + 15 + 2 + 3)
    assert simulation.busy < 0.02


def test_the_plan_has_the_fewest_devices_that_suffice():
    work = workload()
    capacity = plan(work, SITE)
    assert capacity.is_enough
    assert capacity.servers.devices >= work.devices_busy
    fewer = Site(**{**vars(SITE), "devices": capacity.servers.devices - 1})
    assert not plan(work, fewer).is_enough


def test_what_no_number_of_devices_can_do_is_refused():
    with pytest.raises(ValueError, match="with any number of devices: 30 s until the series is complete"):
        plan(workload(), Site(**{**vars(SITE), "within_seconds": 40}))


def test_amounts_of_a_year_of_a_million_studies():
    """By hand: 2740 studies a day of 500 images of 0.5 MiB."""
    amounts = {requirement.what: requirement.amount for requirement in plan(workload(share=0.3), SITE).requirements}
    assert amounts["busiest hour"] == pytest.approx(342.5)
    assert amounts["network in"] == pytest.approx(342.5 * 250 * 2**20 * 8 / 3600 / 1e6)
    assert amounts["disk"] == pytest.approx(15 * 2740 * (250 + 0.3) / 1024 / 0.8)
    assert amounts["ledger"] == pytest.approx(15 * 2740 * (500 * 750 + 0.3 * 10_000) / 2**30)
    assert (amounts["receivers"], amounts["connections"]) == (1, 8 * 15)


def test_receivers_and_their_connections_follow_the_images():
    """By hand: 100,000 studies a day are 1,736 images/s, and a receiver takes 1.3 ms of a core for each."""
    capacity = plan(workload(studies=100_000, share=0.0), SITE)
    amounts = {requirement.what: requirement.amount for requirement in capacity.requirements}
    assert (amounts["receivers"], amounts["connections"]) == (4, 11 * 15)


def run(*arguments: str, folder: Path) -> tuple[int, str]:
    told = CliRunner().invoke(main, ["plan", "--config", str(folder / "absent.toml"), *arguments])
    return told.exit_code, told.output


def test_a_plan_before_there_is_a_node(tmp_path: Path):
    sizes = ("--images", "300", "--image-mib", "0.5")
    status, text = run("--studies", "400", *sizes, "--analysis", "nodule=15:0.5", folder=tmp_path)
    assert status == 0, text
    assert "nodule: 15.0 s on 50% of the studies" in text
    assert "From the last image to delivery in the busiest hours: 50% " in text
    status, text = run(
        "--studies", "4000", *sizes, "--analysis", "nodule=60", "--devices", "2", "--json", folder=tmp_path
    )
    assert status == 1
    assert json.loads(text)["is_enough"] is False
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --images and --image-mib"),
        (("--images", "9", "--image-mib", "1"), "give --analysis PIPELINE=SECONDS"),
        (("--analysis", "nodule"), "'nodule' is not PIPELINE=SECONDS[:SHARE]"),
        (("--analysis", "nodule=15:30"), "is not PIPELINE=SECONDS[:SHARE]"),
        (("--analysis", "nodule=nan"), "is not PIPELINE=SECONDS[:SHARE]"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: tuple[str, ...], said: str):
    status, text = run("--studies", "10", *arguments, folder=tmp_path)
    assert status == 2
    assert said in " ".join(text.split())


def test_sizes_and_times_come_from_the_ledger(tmp_path: Path):
    (tmp_path / "config.toml").write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n')
    (tmp_path / "data").mkdir()
    engine = open_ledger(ledger_url("", tmp_path / "data"))
    with begin_immediate(engine) as connection:
        for number in (1, 2):
            connection.execute(
                sa.insert(series).values(
                    study_instance_uid=f"1.{number}", series_instance_uid=f"1.{number}.1", modality="CT",
                    instances=100 * number, size=100 * number * 2**19, first_at=1.0, last_at=2.0, state="COMPLETE",
                    generation=1, completed_by="quiet", completed_at=3.0,
                )
            )  # fmt: skip
        for job, seconds in (("a", 10.0), ("b", 20.0)):
            fact = facts(1, 1, run_seconds=seconds, outcome="no findings", scores=[], histogram=[], device="cpu")[0]
            record_statistics(connection, job, "nodule", fact)
    engine.dispose()
    told = CliRunner().invoke(main, ["plan", "--config", str(tmp_path / "config.toml"), "--studies", "100"])
    assert told.exit_code == 0, told.output
    assert "150 images of 0.50 MiB a study" in told.output
    assert "nodule: 15.0 s on 100% of the studies (mean of 2 measured)" in told.output
