"""Earlier analyses: found by C-FIND and C-GET at a real PACS, read back, compared in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import peers
import pytest
from analyses import ALGORITHM, analysis, box, one, segment, source_of
from dicom_files import ct_series
from job_node import JobNode, config_of
from pydicom import Dataset, dcmread
from volume_series import VolumeSeries

from node.config import Destination, PriorTable, Rule
from node.deliver.association import Peer
from node.deliver.prior import EarlierReports, fetch_reports
from node.errors import DeliveryError
from node.jobs.infer import Infer
from node.ledger.jobs import source_paths
from node.pipeline import DerivedSeries, Findings, Lesion, Prior, PriorFinding, Segment, Volume, codes
from node.results import encode
from node.results.prior import compare, read_prior


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
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
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
    with peers.orthanc(folder) as running:
        for path in files:
            running._open("/instances", path.read_bytes())
        yield running


def peer_at(title: str, port: int) -> Peer:
    return Peer.of("pacs", Destination(title=title, host="127.0.0.1", port=port))


def priors(pacs: peers.Orthanc, header: Dataset, folder: Path, days: int = 730) -> list[Prior | None]:
    peer = peer_at(pacs.aet, pacs.dicom_port)
    found = fetch_reports(peer, "AINODE", header, days, folder)
    return [read_prior([dcmread(path) for path in reports], "nodule") for reports in found]


def test_the_latest_report_of_the_pipeline_on_an_earlier_study_of_the_patient_is_found(
    tmp_path: Path, pacs: peers.Orthanc
):
    today = scanned(tmp_path / "today", "20260110", IssuerOfPatientID="HERE").datasets[0]
    found = [prior for prior in priors(pacs, today, tmp_path / "prior") if prior is not None]
    assert [prior.study_date for prior in found] == [date(2025, 9, 1), date(2025, 3, 1)]
    (nodule,) = found[0].findings
    assert nodule.finding == codes.SCT.Nodule
    assert nodule.volume_mm3 == pytest.approx(2 * 144 * 2.0)
    assert priors(pacs, today, tmp_path / "near", days=30) == []


def node_with_prior(folder: Path, port: int) -> tuple[JobNode, Infer, str]:
    """A node with a rule that asks for a prior at a port, and a job of it on a CT of 2026-01-10."""
    rule = Rule(name="all", prior=PriorTable(source="pacs"), pipelines=("nodule",), destinations=("pacs",))
    base = config_of(folder / "node", pipelines={"nodule": {"does": "findings"}})
    peer = Destination(title="ORTHANC", host="127.0.0.1", port=port)
    config = base.model_copy(update={"rules": (rule,), "destinations": {"pacs": peer}})
    node = JobNode(config)
    images = [dcmread(path) for path in scanned(folder / "scan", "20260110", IssuerOfPatientID="HERE").paths]
    job_id = node.enqueue_for(*node.receive(images), destinations=("pacs",), pipeline="nodule")
    return node, Infer(config, node.engine, node.spool, EarlierReports(config, node.engine)), job_id


def test_a_job_compares_and_says_so_in_the_report(tmp_path: Path, pacs: peers.Orthanc):
    node, infer, job_id = node_with_prior(tmp_path, pacs.dicom_port)
    stages = [stage for stage in node.stages() if stage.name != "infer"]
    node.jobs.serve("worker", [*stages, replace(infer.stage(), begin=lambda: None)])
    try:
        node.wait(job_id)
    finally:
        node.jobs.stop()
    reports = [dcmread(node.spool.absolute(r.path)) for r in node.results(job_id) if "report" in r.description]
    told = [str(item.TextValue) for report in reports for item in walked(report) if "TextValue" in item]
    assert "Compared with the study of 2025-09-01, 131 days before: 1 finding of 576 mm3 then" in "\n".join(told)
    assert not (tmp_path / "node" / "work" / job_id / "prior").exists()


def walked(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from walked(child)


def test_a_pacs_that_does_not_answer_keeps_no_result_back(tmp_path: Path, free_port: int):
    node, infer, job_id = node_with_prior(tmp_path, free_port)
    with node.engine.connect() as connection:
        paths = source_paths(connection, node.job(job_id))
    prior, reason = infer._prior(node.job(job_id), paths)
    infer.close()
    assert (prior, reason) == (None, "Earlier analyses could not be asked for at pacs; nothing was compared.")


def test_a_peer_that_refuses_the_query_is_an_error_that_names_it(tmp_path: Path):
    header = scanned(tmp_path / "scan", "20260110").datasets[0]
    with peers.storescp(tmp_path) as store_only:
        peer = peer_at(store_only.aet, store_only.port)
        with pytest.raises(DeliveryError, match=r"pacs .* C-FIND"):
            list(fetch_reports(peer, "AINODE", header, 730, tmp_path / "prior"))


def test_an_image_without_patient_or_date_has_no_prior(tmp_path: Path):
    peer = peer_at("X", 1)  # is not asked
    for change in ({"PatientID": ""}, {"StudyDate": "soon"}):
        header = Dataset()
        header.StudyDate, header.PatientID = "20260110", "TEST-1"
        for keyword, value in change.items():
            header.add_new(keyword, "LO", value)
        assert list(fetch_reports(peer, "AINODE", header, 730, tmp_path)) == []


def test_reports_of_others_and_of_failures_are_passed_over(tmp_path: Path):
    source = scanned(tmp_path / "scan", "20250901")
    failed = one(encode(analysis(outcome="failed", reason="no memory"), source), "sr")
    none = one(encode(analysis(Findings()), source), "sr")
    other = dcmread(report(tmp_path / "other", "20250901", 2))
    other.Manufacturer = "Another"
    assert read_prior([failed, other], "nodule") is None
    assert read_prior([failed, other, none], "nodule") == Prior(study_date=date(2025, 9, 1), version="1.2", findings=())
    assert read_prior([none], "tumor") is None


def prior_of(*volumes: float) -> Prior:
    found = tuple(PriorFinding(finding=codes.SCT.Nodule, volume_mm3=v) for v in volumes)
    return Prior(study_date=date(2025, 9, 1), version="1.2", findings=found)


@pytest.mark.parametrize(
    ("before", "depths", "said"),
    [
        ((576.0,), (4,), "1 finding of 576 mm3 then, 1 finding of 1152 mm3 now, a change of +100 % in total volume; "),
        ((576.0,), (4,), "volume doubling time 130 days if it is the same finding."),
        ((576.0,), (2,), "a change of +0 % in total volume."),
        ((576.0,), (1,), "a change of -50 % in total volume."),
        ((576.0, 100.0), (4,), "2 findings of 676 mm3 then, 1 finding of 1152 mm3 now"),
        ((576.0, 100.0), (4,), "findings are not matched one to one."),
        ((), (2,), "no finding then, 1 finding of 576 mm3 now."),
        ((576.0,), (), "1 finding of 576 mm3 then, no finding now."),
        ((), (), "no finding then, no finding now."),
    ],
)
def test_the_comparison_says_what_can_be_known(before: tuple[float, ...], depths: tuple[int, ...], said: str):
    grid = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT")
    series = VolumeSeries(grid, attributes={"StudyDate": "20260109"}, prior=prior_of(*before))
    (remark,) = compare(lesions(grid, *depths), series, ALGORITHM, "").remarks
    assert remark.startswith("Compared with the study of 2025-09-01, 130 days before: ")
    assert said in remark


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
    assert remark.endswith("no finding then, no finding now.")


def test_without_a_prior_the_report_says_why_and_only_when_one_was_asked_for():
    grid = Volume(np.zeros((2, 4, 4), np.float32), np.eye(4), "PATIENT")
    assert compare(Findings(), VolumeSeries(grid), ALGORITHM, "").remarks == ()
    assert compare(Findings(), VolumeSeries(grid), ALGORITHM, "None was found.").remarks == ("None was found.",)


def test_another_version_of_the_algorithm_is_named():
    grid = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT")
    series = VolumeSeries(grid, attributes={"StudyDate": "20260109"}, prior=prior_of(576.0))
    (remark,) = compare(lesions(grid, 2), series, replace(ALGORITHM, version="2.0"), "").remarks
    assert remark.endswith("; the algorithm was version 1.2 then and is 2.0 now.")


def test_a_pipeline_that_looks_for_nothing_has_nothing_to_compare():
    grid = Volume(np.zeros((8, 32, 32), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]), "PATIENT")
    made = Findings(derived=(DerivedSeries(volume=grid, description="Half", derivation=codes.DCM.Smoothing),))
    series = VolumeSeries(grid, attributes={"StudyDate": "20260109"}, prior=prior_of())
    assert compare(made, series, ALGORITHM, "None was found.").remarks == ()
