"""When ``prefer`` chooses: as soon as nothing better can come, and rightly again when something better comes later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from routing_scene import Scene

from node.config import Config, Rule, SeriesTable, parse
from node.ledger import ProcedureStepState
from node.ledger.engine import begin_immediate
from node.ledger.procedure_steps import NewStep, create_step, update_step
from node.ledger.tables import association, instance
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.reasons import ReasonCode, reason
from node.routing.quiet_period import longest_quiet_seconds, quiet_seconds, shortest_quiet_seconds
from node.routing.region import Region, region_of, same_region
from node.routing.replay_decisions import StudySeries, decide_study
from node.routing.rules import Origin, SeriesHeader
from node.routing.selection_wait import Outlook, may_choose

CHEST = """
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "chest"
match = { Modality = "CT" }
prefer = ["axial", "thinnest"]
pipelines = ["scripted"]
destinations = ["pacs"]
"""
SETTINGS = SeriesTable()


def rule(**keys: object) -> Rule:
    return Rule.model_validate({"name": "chest", "prefer": ("thinnest",), "pipelines": ("nodule",), **keys})


def set_open(scene: Scene, series_uid: str, *, is_open: bool) -> None:
    """The association that brought a series stays open, or is closed now."""
    of_series = sa.select(instance.c.association_id).where(instance.c.series_instance_uid == series_uid)
    with begin_immediate(scene.node.engine) as connection:
        connection.execute(
            sa.update(association)
            .where(association.c.id.in_(of_series))
            .values(closed_at=None if is_open else scene.at)
        )


def receive_all(scene: Scene, **attributes: Any) -> str:
    """A series whose images state how many there are: it is complete while its association is open."""
    return scene.receive(NumberOfSeriesRelatedInstances=4, **attributes)


def test_the_only_series_of_a_study_goes_on_as_soon_as_it_is_complete(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    scene.receive()
    scene.wait(29)
    assert scene.jobs() == []
    scene.wait(2)
    assert len(scene.jobs()) == 1
    assert "the best of 1 series (no image of the study for 30 s)" in describe(explain(scene.node.engine, scene.study))


def test_of_two_reconstructions_sent_one_after_the_other_one_is_analysed(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    thick = scene.receive(SliceThickness="5")
    scene.wait(25)
    thin = scene.receive(SliceThickness="1")
    scene.wait(10)  # the first is complete, the second is being received
    assert (scene.jobs(), scene.decided()[thick][0]) == ([], "waiting")
    scene.wait(21)
    assert [job.series_instance_uid for job in scene.jobs()] == [thin]
    assert scene.differences() == ()


def test_an_open_association_that_has_sent_images_of_the_study_may_bring_a_better_series(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    uid = receive_all(scene)
    set_open(scene, uid, is_open=True)
    scene.wait(40)
    assert scene.decided()[uid][0] == "waiting"
    assert "an association of CT1 that has sent images of the study is open; waiting 120 s" in describe(
        explain(scene.node.engine, scene.study)
    )
    set_open(scene, uid, is_open=False)
    scene.wait(1)
    assert len(scene.jobs()) == 1


def test_an_association_that_stays_open_is_waited_for_until_the_study_is_quiet(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    set_open(scene, receive_all(scene), is_open=True)
    scene.wait(119)
    assert scene.jobs() == []
    scene.wait(2)
    assert len(scene.jobs()) == 1
    assert "although an association of CT1" in describe(explain(scene.node.engine, scene.study))


@pytest.mark.thorough
def test_an_association_that_sends_another_study_holds_nothing_up(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    scene.receive()
    set_open(scene, scene.receive(ct_series(n=2, size=16)), is_open=True)
    scene.wait(31)
    assert len(scene.jobs()) == 1


def step(scene: Scene, name: str = "1.2.3.4", device: str = "10.1.2.3") -> None:
    with begin_immediate(scene.node.engine) as connection:
        create_step(
            connection,
            NewStep(
                sop_instance_uid=name,
                study_instance_uid=scene.study,
                modality="CT",
                calling_ae="CT1",
                equipment=device,
                made=frozenset(),
            ),
        )


def test_the_end_of_the_procedure_step_ends_the_wait_at_once(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    step(scene)
    images = ct_series(n=4, size=16, study=scene.study)
    uid = scene.receive(images)
    scene.wait(60)
    assert scene.jobs() == []
    with begin_immediate(scene.node.engine) as connection:
        update_step(
            connection, "1.2.3.4", ProcedureStepState.COMPLETED, [(uid, str(image.SOPInstanceUID)) for image in images]
        )
    scene.wait(1)
    assert len(scene.jobs()) == 1
    told = describe(explain(scene.node.engine, scene.study))
    assert "all series that the COMPLETED procedure step of CT1 names are here" in told


def test_the_step_of_another_device_holds_up_no_choice(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    step(scene, device="10.6.6.6")
    scene.receive()
    scene.wait(31)
    assert len(scene.jobs()) == 1


def test_another_step_of_the_study_in_progress_may_bring_a_better_series(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    images = ct_series(n=4, size=16, study=scene.study)
    step(scene)
    uid = scene.receive(images)
    with begin_immediate(scene.node.engine) as connection:
        update_step(
            connection, "1.2.3.4", ProcedureStepState.COMPLETED, [(uid, str(image.SOPInstanceUID)) for image in images]
        )
    scene.at += 1
    step(scene, "1.2.3.5")
    scene.wait(40)
    assert scene.decided()[uid][0] == "waiting"
    scene.wait(80)
    assert len(scene.jobs()) == 1


def test_a_better_series_that_comes_later_is_chosen_and_both_traces_say_so(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    first = scene.receive(SliceThickness="5")
    scene.wait(31)
    better = scene.receive(SliceThickness="1")
    worse = scene.receive(SliceThickness="3")
    scene.wait(31)
    assert {job.series_instance_uid for job in scene.jobs()} == {first, better}
    assert scene.decided()[worse][0] == "ignored"
    told = describe(explain(scene.node.engine, scene.study))
    assert f"the best of 3 series (no image of the study for 30 s); series {first} was chosen before this one" in told
    assert f"a better series of rule 'chest' came later: {better}" in told
    assert scene.differences() == ()


@pytest.mark.thorough
def test_late_images_make_the_choice_again(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    images = ct_series(n=6, size=16, study=scene.study)
    uid = scene.receive(images[:5], SliceThickness="1")
    other = scene.receive(SliceThickness="5")
    scene.wait(31)
    assert [job.series_instance_uid for job in scene.jobs()] == [uid]
    scene.receive(images[5:], SliceThickness="1")
    scene.wait(31)
    assert sorted((job.series_instance_uid, job.generation) for job in scene.jobs()) == [(uid, 1), (uid, 2)]
    assert scene.decided()[other][0] == "ignored"
    assert "was chosen before" not in describe(explain(scene.node.engine, scene.study))


def test_a_stat_request_waits_ten_seconds_and_not_for_what_may_come(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    set_open(scene, receive_all(scene, RequestedProcedurePriority="STAT"), is_open=True)
    scene.wait(9)
    assert scene.jobs() == []
    scene.wait(2)
    (job,) = scene.jobs()
    assert job.priority == 1


def test_a_rule_of_high_priority_waits_as_little(tmp_path: Path):
    scene = Scene(tmp_path, CHEST + 'priority = "high"\n')
    scene.receive()
    scene.wait(11)
    assert len(scene.jobs()) == 1


def test_series_of_other_regions_do_not_compete(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    chest = scene.receive(ct_series(n=10, size=16, study=scene.study), SliceThickness="2.5")
    head = ct_series(n=10, size=16, study=scene.study, origin=(-10.0, -20.0, 300.0))
    scene.receive(head, SliceThickness="0.6")
    scene.receive(ct_series(n=10, size=16, study=scene.study), SliceThickness="5")
    scene.wait(31)
    assert {job.series_instance_uid for job in scene.jobs()} == {chest, str(head[0].SeriesInstanceUID)}


def test_each_of_two_series_of_one_region_covers_half_of_the_other():
    body, chest, neck = (Region(frame="1", low=low, high=high) for low, high in ((0, 600), (250, 600), (550, 800)))
    assert same_region(body, chest)
    assert same_region(chest, body)
    assert not same_region(chest, neck)
    assert not same_region(body, Region(frame="1", low=300, high=300))  # one slice to time the contrast medium by
    assert not same_region(chest, Region(frame="2", low=250, high=600))
    assert same_region(chest, Region(frame="", low=250, high=600))
    assert same_region(chest, None)


def test_a_quiet_period_that_a_rule_states_holds_for_stat_as_well():
    assert quiet_seconds(rule(), SETTINGS, urgent=False) == 30.0
    assert quiet_seconds(rule(), SETTINGS, urgent=True) == 10.0
    assert quiet_seconds(rule(quiet_seconds=60.0), SETTINGS, urgent=True) == 60.0
    assert quiet_seconds(rule(), SeriesTable(quiet_seconds=4.0), urgent=True) == 4.0
    assert longest_quiet_seconds([rule(), rule(priority="high")], SETTINGS, urgent=False) == 30.0
    assert longest_quiet_seconds([], SETTINGS, urgent=True) == 30.0
    assert shortest_quiet_seconds([rule(quiet_seconds=60.0)], SETTINGS) == 30.0
    assert shortest_quiet_seconds([], SETTINGS) == 30.0


def test_a_rule_may_wait_longer_for_a_better_series_and_stat_does_not():
    patient = rule(prefer_seconds=90.0)
    quiet = Outlook(receiving=0, last_at=0.0)
    assert not may_choose(patient, quiet, SETTINGS, 89.0, urgent=False).ready
    assert may_choose(patient, quiet, SETTINGS, 90.0, urgent=False).ready
    assert may_choose(patient, quiet, SETTINGS, 10.0, urgent=True).ready
    assert not may_choose(patient, Outlook(receiving=1, last_at=0.0), SETTINGS, 900.0, urgent=True).ready
    assert may_choose(
        patient,
        Outlook(receiving=0, last_at=0.0, whole=reason(ReasonCode.STEP_COMPLETED, calling_aes=["CT1"])),
        SETTINGS,
        0.0,
        urgent=False,
    ).ready


def test_a_wait_that_is_no_time_is_refused():
    with pytest.raises(ValueError, match="prefer_seconds"):
        rule(prefer_seconds=-1.0)
    assert Config.model_validate(parse(CHEST).model_dump()).rules[0].prefer_seconds is None


@pytest.mark.parametrize(("kernels", "best"), [(("L", "B"), 1), (("B70f", "B30f"), 1), (("STANDARD", "LUNG"), 0)])
def test_shipped_rules_analyse_and_denoise_one_reconstruction_of_a_study(kernels: tuple[str, str], best: int):
    rules = parse((Path(__file__).parents[2] / "config.toml").read_text()).rules
    study = {}
    for number, kernel in enumerate(kernels):
        images = ct_series(n=6, size=16, study="1.2.3", series=f"1.2.3.{number}")
        for image in images:
            image.FrameOfReferenceUID, image.ConvolutionKernel, image.SliceThickness = "1.2.4", kernel, "1.0"
        study[f"1.2.3.{number}"] = StudySeries(
            series=SeriesHeader.of(images), images=6, origin=Origin(), region=region_of(images)
        )
    decisions = decide_study(study, rules)
    routed = {
        uid: [route.pipeline for route in decision.routes] for uid, decision in decisions.items() if decision.routes
    }
    assert routed == {f"1.2.3.{best}": ["nodule", "denoise"]}, "SEG, SR and denoised images: three series"
