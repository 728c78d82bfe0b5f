"""Earlier analyses: found at a real PACS by C-FIND and C-GET or C-MOVE, read back, compared lesion by lesion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import real_peers
from analyses import ALGORITHM, NOTHING, analysis, box, one, segment, source_of, walked
from dicom_files import ct_series
from job_node import JobNode, config_of
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from scipy.ndimage import gaussian_filter
from volume_series import VolumeSeries, points, same_places

from node.config import Config, Destination, PriorTable, Rule
from node.deliver.prior_studies import PriorStudies
from node.errors import DeliveryError, InputError
from node.inference.infer_stage import Infer
from node.inference.prior_files import PriorFinder
from node.inference.task import PriorFiles
from node.ledger.jobs import source_paths
from node.pipeline import DerivedSeries, Findings, Lesion, Prior, PriorFinding, Segment, Volume, codes
from node.results.analysis import EncodedObject, Kind
from node.results.encode import encode
from node.results.gate.check import check
from node.results.prior.growth_text import MAY_HAVE_BEEN
from node.results.prior.lesion_matching import compare
from node.results.prior.masks import middle_mm, prior_masks
from node.results.prior.report import analysed_series, latest_report, read_prior, referenced_segmentation
from node.results.report_codes import CHANGE, DOUBLING_TIME, EARLIER_VOLUME
from node.studies.alignment import shift_mm
from node.studies.source import SourceSeries


def lesions(grid: Volume, *depths: int) -> Findings:
    """A box of so many slices for each number, 12 x 12 pixels."""
    masks = [box(grid, (1, 1 + 14 * i, 1), (1 + depth, 13 + 14 * i, 13)) for i, depth in enumerate(depths)]
    return Findings(
        lesions=tuple(
            Lesion(segment=segment(mask, f"Nodule {i}"), finding=codes.SCT.Nodule) for i, mask in enumerate(masks)
        )
    )


def scanned(folder: Path, study_date: str, **identity: str):
    """A CT of 8 slices of that day."""

    def change(dataset) -> None:
        dataset.StudyDate = study_date
        for keyword, value in identity.items():
            setattr(dataset, keyword, value)

    return source_of(folder, ct_series(8, 32, spacing=(2.0, 1.0, 1.0)), change)


def report(folder: Path, study_date: str, *depths: int, pipeline: str = "nodule", **identity: str) -> Path:
    """The SR of such a CT, as a file."""
    source = scanned(folder / "scan", study_date, **identity)
    objects = encode(analysis(lesions(source.volume("HPL"), *depths), pipeline=pipeline), source)
    path = folder / "sr.dcm"
    one(objects, "sr").save_as(path)
    return path


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    """Holds reports of 2025-03-01 and 2025-09-01, and others that must not be taken for them."""
    folder = tmp_path_factory.mktemp("pacs")
    files = [
        report(folder / "oldest", "20250301", 1),
        report(folder / "latest", "20250901", 2),
        report(folder / "other pipeline", "20251001", 5, pipeline="tumor"),
        report(folder / "later", "20260201", 6),
        report(folder / "too old", "20200101", 4),
        report(folder / "namesake", "20251101", 3, PatientBirthDate="19700101"),
        report(folder / "other patient", "20251102", 3, PatientID="TEST-12"),
        report(folder / "other issuer", "20251103", 3, IssuerOfPatientID="ELSEWHERE"),
    ]
    with real_peers.orthanc(folder) as running:
        for path in files:
            running._open("/instances", path.read_bytes())
        yield running


def asking(folder: Path, port: int, prior: PriorTable, title: str = "ORTHANC") -> Config:
    """A node whose rule asks for priors at a port."""
    rule = Rule(name="all", prior=prior, pipelines=("nodule",), destinations=("pacs",))
    base = config_of(folder, pipelines={"nodule": {"does": "findings"}})
    return base.model_copy(
        update={
            "rules": (rule,),
            "destinations": {"pacs": Destination(title=title, host="127.0.0.1", port=port)},
            "ae": base.ae.model_copy(update={"address": "127.0.0.1"}),
        }
    )


def earlier_at(folder: Path, port: int, title: str = "ORTHANC") -> PriorStudies:
    config = asking(folder, port, PRIOR, title)
    return PriorStudies(config, JobNode(config).engine)


PRIOR = PriorTable(source="pacs")


def priors(pacs: real_peers.Orthanc, header: Dataset, folder: Path, days: int = 730) -> list[Prior | None]:
    prior = PriorTable(source="pacs", days=days)
    reports_by_study = earlier_at(folder / "node", pacs.dicom_port).reports(prior, header, folder / "reports")
    latest = [latest_report([dcmread(path) for path in reports], ("nodule",)) for reports in reports_by_study]
    return [report and read_prior(report) for report in latest]


def test_the_latest_report_of_the_pipeline_on_an_earlier_study_of_the_patient_is_found(
    tmp_path: Path, pacs: real_peers.Orthanc
):
    today = scanned(tmp_path / "today", "20260110", IssuerOfPatientID="HERE").datasets[0]
    history = [prior for prior in priors(pacs, today, tmp_path / "prior") if prior is not None]
    assert [prior.study_date for prior in history] == [date(2025, 9, 1), date(2025, 3, 1)]
    (nodule,) = history[0].findings
    assert nodule.finding == codes.SCT.Nodule
    assert nodule.volume_mm3 == pytest.approx(2 * 144 * 2.0)
    assert priors(pacs, today, tmp_path / "near", days=30) == []


def node_with_prior(folder: Path, config: Config, **identity: str) -> tuple[JobNode, Infer, str]:
    """A node, and a job of it on a CT of 2026-01-10."""
    node = JobNode(config)
    images = [dcmread(path) for path in scanned(folder / "scan", "20260110", **identity).paths]
    job_id = node.enqueue_for(*node.receive(images), destinations=("pacs",), pipeline="nodule")
    return node, Infer(config, node.engine, node.spool, earlier_of(node, config)), job_id


def earlier_of(node: JobNode, config: Config) -> PriorFinder:
    return PriorFinder(studies=PriorStudies(config, node.engine), engine=node.engine, spool=node.spool)


def asked(node: JobNode, config: Config, job_id: str, folder: Path) -> PriorFiles:
    """What is found to compare with."""
    with node.engine.connect() as connection:
        (first, *_) = source_paths(connection, node.job(job_id))
    return earlier_of(node, config).files(PRIOR, ("nodule",), node.spool.absolute(first), folder)


def report_of(node: JobNode, infer: Infer, job_id: str) -> Dataset:
    """Run the job to its report."""
    stages = [stage for stage in node.stages() if stage.name != "infer"]
    node.jobs.serve("worker", [*stages, replace(infer.stage(), begin=lambda: None)])
    try:
        node.wait(job_id, seconds=200.0)
    finally:
        node.jobs.stop()
    (made,) = (r for r in node.results(job_id) if "report" in r.description)
    return dcmread(node.spool.absolute(made.path))


def earlier_study(folder: Path, frame: str) -> tuple[SourceSeries, Sequence[EncodedObject]]:
    """Of 2025-09-01: the images and what was made of them."""
    then = scanned(folder / "then", "20250901", FrameOfReferenceUID=frame)
    return then, encode(analysis(lesions(then.volume("HPL"), 2)), then)


def put(pacs: real_peers.Orthanc, images: SourceSeries, objects: Sequence[EncodedObject]) -> None:
    for data in (*(path.read_bytes() for path in images.paths), *(o.data for o in objects if o.kind in {"sr", "seg"})):
        pacs._open("/instances", data)


@pytest.mark.parametrize("moves", [False, True])
def test_report_and_images_come_by_c_get_or_where_there_is_none_by_c_move(tmp_path: Path, *, moves: bool):
    then, objects = earlier_study(tmp_path, "1.2")
    port = real_peers.free_port()
    by = {"move_title": "AIMOVE", "move_port": port} if moves else {}
    prior = PriorTable(source="pacs", **by)
    with real_peers.orthanc(tmp_path, {"AIMOVE": port}) as pacs:
        put(pacs, then, objects)
        config = asking(tmp_path / "node", pacs.dicom_port, prior)
        earlier = PriorStudies(config, JobNode(config).engine)
        today = scanned(tmp_path / "today", "20260110").datasets[0]
        ((report,),) = earlier.reports(prior, today, tmp_path / "reports")
        images = earlier.objects(prior, then.study_instance_uid, analysed_series(dcmread(report)), tmp_path / "images")
        series, uid = referenced_segmentation(dcmread(report))
        (masks,) = earlier.objects(prior, then.study_instance_uid, series, tmp_path / "masks")
    assert dcmread(report) == one(objects, "sr")
    assert dcmread(masks) == one(objects, "seg")
    assert uid == one(objects, "seg").SOPInstanceUID
    assert {dcmread(path).SOPInstanceUID for path in images} == {d.SOPInstanceUID for d in then.datasets}


def test_a_job_follows_a_lesion_of_an_earlier_study(tmp_path: Path):
    frame = generate_uid()
    then, objects = earlier_study(tmp_path, frame)
    with real_peers.orthanc(tmp_path) as pacs:
        put(pacs, then, objects)
        config = asking(tmp_path / "node", pacs.dicom_port, PRIOR)
        node, infer, job_id = node_with_prior(tmp_path, config, FrameOfReferenceUID=frame)
        report = report_of(node, infer, job_id)
    told = "\n".join(str(item.TextValue) for item in walked(report) if "TextValue" in item)
    assert "Compared with the study of 2025-09-01, 131 days before: 1 finding of 576 mm3 reported then" in told
    assert not (tmp_path / "node" / "work" / job_id / "prior").exists()


def test_images_that_are_still_here_are_not_asked_for(tmp_path: Path):
    then, objects = earlier_study(tmp_path, "1.2")
    with real_peers.orthanc(tmp_path) as pacs:
        pacs._open("/instances", one_of(objects, "sr").data)  # the archive has nothing but the report
        config = asking(tmp_path / "node", pacs.dicom_port, PRIOR)
        node, infer, job_id = node_with_prior(tmp_path, config)
        infer.close()
        node.receive([dcmread(path) for path in then.paths])
        files = asked(node, config, job_id, node.spool.work(job_id) / "prior")
    assert files.report is not None
    assert files.segmentation is None
    assert {path.is_relative_to(node.spool.folder) for path in files.images} == {True}
    prior = read_prior(dcmread(files.report), SourceSeries.read(files.images))
    assert prior is not None
    middle = np.asarray(then.geometry.affine) @ (1.0, 6.5, 6.5, 1.0)
    assert prior.findings[0].place_mm == pytest.approx(middle[:3], abs=0.6)


def one_of(objects: Sequence[EncodedObject], kind: str) -> EncodedObject:
    (encoded,) = (made for made in objects if made.kind == kind)
    return encoded


@pytest.mark.parametrize("kind", ["seg", "labelmap"])
def test_what_was_outlined_then_comes_back_voxel_by_voxel_without_the_images(tmp_path: Path, kind: Kind):
    then = scanned(tmp_path, "20250901", FrameOfReferenceUID="1.2")
    findings = lesions(then.volume("HPL"), 2, 5)
    reported: Kind = "sr" if kind == "seg" else "sr on labelmap"
    objects = encode(analysis(findings), then, kinds=(kind, reported))
    path = tmp_path / "seg.dcm"
    path.write_bytes(one_of(objects, kind).data)
    prior = read_prior(one(objects, reported), masks=prior_masks(path))
    assert prior is not None
    for finding, lesion in zip(prior.findings, findings.lesions, strict=True):
        assert finding.mask is not None
        assert same_places(points(finding.mask), points(lesion.segment.mask))
    today = VolumeSeries(GRID, attributes={"StudyDate": "20260109", "FrameOfReferenceUID": "1.2"}, prior=prior)
    assert [x.tracking_uid for x in compare(findings, today, ALGORITHM, "").lesions] == [
        x.tracking_uid for x in prior.findings
    ]


def test_a_file_that_is_no_segmentation_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(InputError, match=r"sr\.dcm: the masks cannot be read"):
        prior_masks(report(tmp_path, "20250901", 2))


def test_a_pacs_that_does_not_answer_keeps_no_result_back(tmp_path: Path, free_port: int):
    config = asking(tmp_path / "node", free_port, PRIOR)
    node, infer, job_id = node_with_prior(tmp_path, config)
    infer.close()
    without = "Earlier analyses could not be asked for at pacs; nothing was compared."
    assert asked(node, config, job_id, node.spool.work(job_id) / "prior") == PriorFiles(without=without)


def test_a_peer_that_refuses_the_query_is_an_error_that_names_it(tmp_path: Path):
    header = scanned(tmp_path / "scan", "20260110").datasets[0]
    with real_peers.storescp(tmp_path) as store_only:
        earlier = earlier_at(tmp_path / "node", store_only.port, store_only.aet)
        with pytest.raises(DeliveryError, match=r"pacs .* C-FIND"):
            list(earlier.reports(PRIOR, header, tmp_path / "prior"))


def test_an_image_without_patient_or_date_has_no_prior(tmp_path: Path):
    earlier = earlier_at(tmp_path / "node", 1)  # is not asked
    for change in ({"PatientID": ""}, {"StudyDate": "soon"}):
        header = Dataset()
        header.StudyDate, header.PatientID = "20260110", "TEST-1"
        for keyword, value in change.items():
            header.add_new(keyword, "LO", value)
        assert list(earlier.reports(PRIOR, header, tmp_path)) == []


def test_reports_of_others_and_of_failures_are_passed_over(tmp_path: Path):
    source = scanned(tmp_path / "scan", "20250901")
    failed = one(encode(analysis(outcome="failed", reason="no memory"), source), "sr")
    none = one(encode(analysis(NOTHING), source), "sr")
    other = dcmread(report(tmp_path / "other", "20250901", 2))
    other.Manufacturer = "Another"
    assert latest_report([failed, other], ("nodule",)) is None
    assert latest_report([failed, other, none], ("nodule",)) is none
    parameters = {**ALGORITHM.parameters, "weights_sha256": ALGORITHM.weights_sha256 or ""}
    assert read_prior(none) == Prior(study_date=date(2025, 9, 1), version="1.2", findings=(), parameters=parameters)
    assert latest_report([none], ("tumor",)) is None


GRID = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT", frame_of_reference_uid="1.2")


def prior_of(*volumes: float, depths: tuple[int, ...] = (), frame: str = "1.2") -> Prior:
    """Of 2025-09-01, with images; ``depths``: which findings of ``lesions`` lie where these do."""
    places = [middle_mm(lesion.segment.mask) for lesion in lesions(GRID, *depths).lesions]
    findings = tuple(
        PriorFinding(finding=codes.SCT.Nodule, volume_mm3=v, tracking_uid=f"1.{i}", place_mm=tuple(place))
        for i, (v, place) in enumerate(zip(volumes, places, strict=False))
    )
    images = VolumeSeries(GRID, attributes={"FrameOfReferenceUID": frame})
    return Prior(study_date=date(2025, 9, 1), version="1.2", findings=findings, series=images)


def compared(prior: Prior, *depths: int, frame: str = "1.2") -> Findings:
    """Findings of 130 days later."""
    today = VolumeSeries(GRID, attributes={"StudyDate": "20260109", "FrameOfReferenceUID": frame}, prior=prior)
    return compare(lesions(GRID, *depths), today, ALGORITHM, "")


COMPARED = "Compared with the study of 2025-09-01, 130 days before"


def numbers(lesion: Lesion) -> dict[str, float]:
    return {m.name.value: round(m.value, 1) for m in lesion.measurements}


def test_a_lesion_that_has_doubled_has_its_volume_then_its_growth_and_its_doubling_time():
    findings = compared(prior_of(576.0, depths=(4,)), 4)
    (lesion,) = findings.lesions
    assert numbers(lesion) == {EARLIER_VOLUME.value: 576.0, CHANGE.value: 100.0, DOUBLING_TIME.value: 130.0}
    assert lesion.tracking_uid == "1.0"
    assert findings.remarks == (
        f"{COMPARED}: 1 finding of 576 mm³ reported then, 1 finding of 1.2 ml now.",
        "Nodule 0: 0.6 ml then, 1.2 ml now (+100 %, doubling in 130 days).",
    )


def test_a_followed_lesion_has_its_old_tracking_uid_and_its_growth_in_segmentation_and_report(tmp_path: Path):
    source = scanned(tmp_path, "20260109", FrameOfReferenceUID="1.2")
    findings = lesions(source.volume("HPL"), 4)
    place = tuple(middle_mm(findings.lesions[0].segment.mask))
    before = PriorFinding(finding=codes.SCT.Nodule, volume_mm3=576.0, tracking_uid="2.25.7", place_mm=place)
    prior = Prior(study_date=date(2025, 9, 1), version="1.2", findings=(before,), series=source)
    objects = encode(analysis(compare(findings, replace(source, prior=prior), ALGORITHM, "")), source)
    check(objects, source)
    assert str(one(objects, "seg").SegmentSequence[0].TrackingUID) == "2.25.7"
    numbers = {
        str(item.ConceptNameCodeSequence[0].CodeValue): float(item.MeasuredValueSequence[0].NumericValue)
        for item in walked(one(objects, "sr"))
        if item.get("ValueType") == "NUM"
    }
    assert [numbers[code.value] for code in (EARLIER_VOLUME, CHANGE, DOUBLING_TIME)] == [576.0, 100.0, 130.0]
    again = read_prior(one(objects, "sr"), source)
    assert again is not None
    assert again.findings[0].tracking_uid == "2.25.7"
    assert again.findings[0].place_mm == pytest.approx(place, abs=0.6)


@pytest.mark.parametrize(("depth", "change"), [(4, 0.0), (2, -50.0)])
def test_a_lesion_that_has_not_grown_has_no_doubling_time(depth: int, change: float):
    (lesion,) = compared(prior_of(1152.0, depths=(depth,)), depth).lesions
    assert numbers(lesion) == {EARLIER_VOLUME.value: 1152.0, CHANGE.value: change}


def test_each_lesion_is_followed_where_it_lies_and_those_of_one_report_only_are_named():
    today = lesions(GRID, 2, 4)
    there = prior_of(100.0, 1152.0, depths=(2, 4))
    moved = replace(there.findings[0], place_mm=(200.0, 200.0, 0.0))
    findings = compared(replace(there, findings=(moved, there.findings[1])), 2, 4)
    assert [lesion.tracking_uid for lesion in findings.lesions] == ["", "1.1"]
    assert findings.remarks[1:] == (
        "Nodule 0: not reported earlier.",
        "Nodule 1: 1.2 ml then, 1.2 ml now (0 %, within the error of measurement).",
        MAY_HAVE_BEEN,
        "Not reported now: 1 finding of 100 mm³, 1 of 1 at a place that the present images do not show.",
    )
    assert len(today.lesions) == len(findings.lesions)


def test_a_finding_of_another_kind_is_not_the_same_lesion():
    there = prior_of(576.0, depths=(4,))
    mass = replace(there.findings[0], finding=codes.SCT.Neoplasm)
    (lesion,) = compared(replace(there, findings=(mass,)), 4).lesions
    assert lesion.tracking_uid == ""


@pytest.mark.parametrize("images", [True, False])
def test_findings_are_not_matched_where_the_studies_cannot_be_aligned(*, images: bool):
    there = prior_of(576.0, depths=(4,), frame="1.3")  # volumes without any content
    findings = compared(there if images else replace(there, series=None), 4)
    assert findings.remarks[1] == (
        "Findings are not matched one to one: the images of both studies could not be aligned."
    )
    assert findings.lesions[0].measurements == ()


@pytest.mark.parametrize(
    ("before", "depths", "said"),
    [
        (
            (),
            (2,),
            ["no finding reported then, 1 finding of 576 mm³ now.", "Nodule 0: not reported earlier.", MAY_HAVE_BEEN],
        ),
        (
            (576.0,),
            (),
            ["1 finding of 576 mm³ reported then, no finding now.", "Not reported now: 1 finding of 576 mm³."],
        ),
        ((), (), ["no finding reported then, no finding now."]),
    ],
)
def test_what_cannot_be_compared_is_said_all_the_same(
    before: tuple[float, ...], depths: tuple[int, ...], said: list[str]
):
    remarks = compared(prior_of(*before, depths=tuple(2 for _ in before)), *depths).remarks
    assert remarks == (f"{COMPARED}: {said[0]}", *said[1:])


@pytest.mark.parametrize("by", [(0.0, 0.0, 0.0), (15.0, -10.0, 60.0), (-20.0, 5.0, -45.0)])
def test_the_shift_between_two_scans_of_one_body_is_found(by: tuple[float, float, float]):
    dice = np.random.default_rng(3)
    body = gaussian_filter(dice.normal(size=(60, 70, 80)).astype(np.float32), 3) * 1000
    affine = np.array([[0, 0, 3.0, -120], [0, 3.0, 0, -100], [5.0, 0, 0, -150], [0, 0, 0, 1]])
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 0] * 8 - by
    noise = dice.normal(scale=5, size=(45, 70, 80)).astype(np.float32)
    now, then = Volume(body, affine, "PATIENT"), Volume(body[8:53] + noise, moved, "PATIENT")
    assert shift_mm(now, then) == pytest.approx(by, abs=2.6)
    other = gaussian_filter(dice.normal(size=(60, 70, 80)).astype(np.float32), 3) * 1000
    assert shift_mm(now, Volume(other, affine, "PATIENT")) is None


def test_structures_that_are_no_lesion_are_not_compared():
    grid = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT")
    lung = Segment(
        label="Lung", mask=box(grid, (0, 0, 0), (8, 9, 9)), category=codes.SCT.AnatomicalStructure, type=codes.SCT.Lung
    )
    then = Prior(
        study_date=date(2025, 9, 1), version="1.2", findings=(PriorFinding(finding=codes.SCT.Lung, volume_mm3=9e6),)
    )
    series = VolumeSeries(grid, attributes={"StudyDate": "20260109"}, prior=then)
    (remark,) = compare(Findings(segments=(lung,)), series, ALGORITHM, "").remarks
    assert remark.endswith("no finding reported then, no finding now.")


def test_without_a_prior_the_report_says_why_and_only_when_one_was_asked_for():
    grid = Volume(np.zeros((2, 4, 4), np.float32), np.eye(4), "PATIENT")
    assert compare(Findings(), VolumeSeries(grid), ALGORITHM, "").remarks == ()
    assert compare(Findings(), VolumeSeries(grid), ALGORITHM, "None was found.").remarks == ("None was found.",)


def test_another_version_of_the_algorithm_is_named():
    attributes = {"StudyDate": "20260109", "FrameOfReferenceUID": "1.2"}
    series = VolumeSeries(GRID, attributes=attributes, prior=prior_of(576.0, depths=(2,)))
    findings = compare(lesions(GRID, 2), series, replace(ALGORITHM, version="2.0"), "")
    why = "the algorithm was version 1.2 then and is 2.0 now"
    assert findings.remarks[1] == f"Changes of volume are not given, because {why}."
    assert numbers(findings.lesions[0]) == {EARLIER_VOLUME.value: 576.0}


UNSEEN: dict[str, tuple[dict[str, object], dict[str, str], str]] = {
    "another version": ({"version": "1.1"}, {}, "the algorithm was version 1.1 then"),
    "another model": ({"parameters": {"weights_sha256": "cd" * 32}}, {}, "the model was another one then"),
    "another threshold": (
        {"parameters": {"weights_sha256": "ab" * 32, "threshold": "0.9"}},
        {},
        "the setting threshold was 0.9 then and is 0.5 now",
    ),
    "thicker slices": ({}, {"SliceThickness": "5"}, "the slices were 5 mm thick then and are 1.3 mm now"),
    "a part only": ({"partial": True}, {}, "The earlier analysis saw only a part of the images."),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_nothing_is_called_new_or_grown_where_the_earlier_analysis_was_another(case: str):
    changes, attributes, why = UNSEEN[case]
    there = replace(prior_of(576.0, depths=(4,)), **changes)
    images = VolumeSeries(GRID, attributes={"FrameOfReferenceUID": "1.2", **attributes})
    today = VolumeSeries(
        GRID,
        attributes={"StudyDate": "20260109", "FrameOfReferenceUID": "1.2", "SliceThickness": "1.25"},
        prior=replace(there, series=images),
    )
    other, same = lesions(GRID, 2, 4).lesions
    findings = compare(Findings(lesions=(replace(other, finding=codes.SCT.Lesion), same)), today, ALGORITHM, "")
    told = " ".join(findings.remarks)
    assert why in told
    assert "Nodule 0: not reported earlier." in told
    assert not re.search(r"\bnew\b(?!:)|grown|growth|no longer|disappeared|not found", told.replace(MAY_HAVE_BEEN, ""))
    if case != "a part only":
        assert "%" not in told
        assert {m.name for lesion in findings.lesions for m in lesion.measurements} == {EARLIER_VOLUME}


def test_a_place_that_the_earlier_images_did_not_show_is_named():
    short = Volume(GRID.array[:3], GRID.affine, "PATIENT", frame_of_reference_uid="1.2")
    there = replace(prior_of(), series=VolumeSeries(short, attributes={"FrameOfReferenceUID": "1.2"}))
    deep = box(GRID, (6, 5, 5), (8, 9, 9))
    lesion = Lesion(segment=segment(deep), finding=codes.SCT.Nodule, probability=0.551)
    today = VolumeSeries(GRID, attributes={"StudyDate": "20260109", "FrameOfReferenceUID": "1.2"}, prior=there)
    remarks = compare(Findings(lesions=(lesion,)), today, ALGORITHM, "").remarks
    assert (
        remarks[1] == "Nodule 1: not reported earlier; certainty 55 % now; the earlier images do not show this place."
    )


def test_certainty_is_compared():
    there = prior_of(576.0, depths=(2,))
    there = replace(there, findings=(replace(there.findings[0], probability=0.83),))
    findings = lesions(GRID, 2)
    sure = replace(findings, lesions=(replace(findings.lesions[0], probability=0.914),))
    today = VolumeSeries(GRID, attributes={"StudyDate": "20260109", "FrameOfReferenceUID": "1.2"}, prior=there)
    assert compare(sure, today, ALGORITHM, "").remarks[1].endswith("; certainty 83 % then, 91 % now.")


def test_certainty_settings_and_partial_come_back_from_the_report(tmp_path: Path):
    source = scanned(tmp_path, "20250901")
    findings = lesions(source.volume("HPL"), 2)
    findings = replace(
        findings, lesions=(replace(findings.lesions[0], probability=0.83),), partial="half of the images"
    )
    prior = read_prior(one(encode(analysis(findings), source), "sr"), source)
    assert prior is not None
    assert prior.partial
    assert prior.parameters == {**ALGORITHM.parameters, "weights_sha256": ALGORITHM.weights_sha256}
    assert prior.findings[0].probability == 0.83


def test_a_pipeline_that_looks_for_nothing_has_nothing_to_compare():
    grid = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT")
    made = Findings(derived=(DerivedSeries(volume=grid, description="Half", derivation=codes.DCM.Smoothing),))
    series = VolumeSeries(grid, attributes={"StudyDate": "20260109"}, prior=prior_of())
    assert compare(made, series, ALGORITHM, "None was found.").remarks == ()
