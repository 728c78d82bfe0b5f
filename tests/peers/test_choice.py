"""Rules that look at a whole study: the best of several series, companions and their deadline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import postgres
import pytest
from dicom_files import CORONAL, ct_series
from job_node import JobNode, config_of
from pydicom.uid import generate_uid
from routing_scene import BRAIN, CHEST, Scene

from node.operate.explain import explain
from node.operate.explain_text import describe
from node.reasons import reason_text
from node.routing.router import Router
from node.routing.rules import SeriesHeader
from node.routing.series_selection import marks
from node.web.study_list import latest


def test_of_five_reconstructions_the_thin_axial_lung_kernel_alone_is_analysed(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    scene.receive(SliceThickness="5", ConvolutionKernel="B30f")
    scene.receive(SliceThickness="1", ConvolutionKernel="B30f")
    thick = scene.receive(SliceThickness="3", ConvolutionKernel="B70f")
    coronal = ct_series(n=4, size=16, study=scene.study, orientation=CORONAL, origin=(-10.0, -20.0, -21.0))
    scene.receive(coronal, ConvolutionKernel="B70f")
    scene.receive(SliceThickness="0.6", ConvolutionKernel="B70f", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    scene.wait(15)
    assert {outcome for outcome, _ in scene.decided().values()} == {"waiting", "ignored"}
    assert scene.jobs() == []
    scene.wait(30)
    best = scene.receive(SliceThickness="1", ConvolutionKernel="B70f")  # the scanner was slow
    scene.wait(55)
    assert scene.jobs() == []
    scene.wait(10)
    (job,) = scene.jobs()
    assert job.series_instance_uid == best
    assert scene.decided()[best] == ("routed", "matches 'chest'")
    assert scene.decided()[thick] == ("ignored", "another series of the study was chosen by 'chest'")
    told = describe(explain(scene.node.engine, scene.study))
    assert f"not chosen: series {best} has 1 mm slices, this one 3 mm slices" in told
    assert f"not chosen: series {best} has a preferred ConvolutionKernel, this one another ConvolutionKernel" in told
    assert "axial slices, this one coronal slices" in told
    assert "the best of 5 series" in told
    assert scene.differences() == ()


def test_a_better_series_that_comes_after_the_choice_is_analysed_as_well_and_a_worse_one_is_not(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    scene.receive(SliceThickness="2")
    scene.wait(15)
    scene.wait(60)
    assert len(scene.jobs()) == 1
    worse = scene.receive(SliceThickness="5")
    better = scene.receive(SliceThickness="1")
    scene.wait(15)
    scene.wait(60)
    newest, _ = scene.jobs()
    assert newest.series_instance_uid == better
    assert scene.decided()[worse][0] == "ignored"


def test_images_that_come_late_make_a_new_generation_of_the_chosen_series(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    images = ct_series(n=5, size=16, study=scene.study)
    uid = scene.receive(images[:4])
    scene.wait(15)
    scene.wait(60)
    scene.receive(images[4:])
    scene.wait(15)
    assert scene.decided()[uid][0] == "waiting"
    scene.wait(60)
    assert sorted(job.generation for job in scene.jobs()) == [1, 2]
    assert scene.differences() == ()


def test_a_series_waits_for_its_companion_and_the_job_knows_it(tmp_path: Path):
    scene = Scene(tmp_path, BRAIN)
    main = scene.receive(SeriesDescription="Ax FLAIR")
    scene.wait(15)
    assert scene.decided()[main] == ("waiting", "for other series of the study, by 'brain'")
    with scene.node.engine.connect() as connection:
        (shown,) = latest(connection)
    assert shown.stage == "waiting"
    assert scene.differences() == ()
    t1c = scene.receive(SeriesDescription="T1 +Gd")
    scene.wait(5)
    assert scene.jobs() == []
    scene.wait(10)
    (job,) = scene.jobs()
    assert (job.series_instance_uid, dict(job.companions), job.outcome) == (main, {"t1c": t1c}, None)
    assert scene.decided()[t1c] == ("ignored", "only looked at with others: 't1c' of 'brain'")
    assert f"'t1c' is series {t1c}" in describe(explain(scene.node.engine, scene.study))
    assert scene.differences() == ()


@pytest.mark.parametrize("required", [True, False])
def test_after_the_deadline_the_rule_says_whether_the_pipeline_runs_without(tmp_path: Path, *, required: bool):
    scene = Scene(tmp_path, BRAIN + f"companions.t1c.required = {str(required).lower()}\n")
    main = scene.receive(SeriesDescription="Ax FLAIR")
    scene.wait(15)
    scene.wait(590)
    assert scene.jobs() == []
    scene.wait(15)
    (job,) = scene.jobs()
    assert job.series_instance_uid == main
    assert job.companions == {}
    if required:
        assert (job.stage, job.outcome, reason_text(job.reason)) == (
            "encode",
            "not applicable",
            "series 't1c' did not come within 600 s",
        )
    else:
        assert (job.stage, job.outcome) == ("infer", None)
    assert "'t1c' did not come within 600 s" in describe(explain(scene.node.engine, scene.study))


def test_two_routers_make_one_decision_on_postgresql(tmp_path: Path, postgres_server: str):
    scene = Scene(tmp_path, CHEST, postgres.new_database(postgres_server, "choice"))
    scene.receive()
    scene.wait(15)
    other = Router(scene.config, scene.node.engine, scene.node.spool, scene.node.jobs)
    scene.at += 60
    assert [scene.router.step(scene.at), other.step(scene.at)] == [1, 0]
    assert len(scene.jobs()) == 1
    scene.node.engine.dispose()


def test_a_rule_that_is_gone_leaves_nothing_waiting(tmp_path: Path):
    scene = Scene(tmp_path, CHEST)
    uid = scene.receive()
    scene.wait(15)
    config = scene.config.model_copy(update={"rules": ()})
    Router(config, scene.node.engine, scene.node.spool, scene.node.jobs).step(scene.at + 1)
    assert scene.decided()[uid][0] == "ignored"
    assert "no longer in config.toml" in describe(explain(scene.node.engine, scene.study))


def test_what_settles_a_tie_is_fixed():
    def numbers(n: int, **attributes: Any) -> tuple[float, ...]:
        images = ct_series(n=n, size=16)
        for keyword, value in attributes.items():
            setattr(images[0], keyword, value)
        return tuple(number for number, _ in marks((), SeriesHeader.of(images[:1]), len(images)))

    assert numbers(5) < numbers(4)
    assert numbers(4, SeriesNumber=2) < numbers(4, SeriesNumber=3) < numbers(4, SeriesNumber=None)


def test_a_pipeline_reads_the_companion(tmp_path: Path):
    config = config_of(tmp_path, does="companion")
    node = JobNode(config)
    study = str(generate_uid())
    _, main = node.receive(ct_series(n=4, size=16, study=study))
    _, other = node.receive(ct_series(n=3, size=16, study=study))
    node.jobs.serve("worker", node.stages())
    try:
        job_id = node.enqueue_for(study, main, destinations=(), pipeline="scripted", companions={"t1c": other})
        assert (node.wait(job_id).outcome, reason_text(node.job(job_id).reason)) == (
            "not applicable",
            "t1c has 3 slices, t2 is None",
        )
    finally:
        node.jobs.stop()
