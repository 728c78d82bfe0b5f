"""A result that follows another one names it and keeps the identity of its lesions; wrong ones are withdrawn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import delivery_jobs
import pytest
import real_peers
import sqlalchemy as sa
from analyses import Change, analysis, box, encoded, one, put, segment, source_of, spoiled, two_lesions
from dicom_files import ct_series
from pydicom import FileDataset, dcmread
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.errors import GateError, NodeError
from node.inference.retraction import retract
from node.jobs.engine import Jobs
from node.ledger.pending_deliveries import deliveries_of
from node.pipeline import Findings, Lesion, Segment, codes
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check, check_rejection, identity_faults
from node.results.predecessor import Predecessor
from node.results.rejection import REJECTIONS, encode_rejection
from node.results.uids import analysis_key, derive_uid
from node.studies.source import SourceSeries


def tracking(seg: FileDataset) -> dict[str, str]:
    return {str(s.SegmentLabel): str(s.TrackingUID) for s in seg.SegmentSequence}


def earlier_of(folder: Path, source: SourceSeries, findings: Findings) -> tuple[Predecessor, FileDataset, FileDataset]:
    objects = encode(analysis(findings), source)
    paths = {}
    for encoded_object in objects:
        paths[str(encoded_object.kind)] = folder / f"{encoded_object.kind}.earlier"
        paths[str(encoded_object.kind)].write_bytes(encoded_object.data)
    return Predecessor.read(paths), one(objects, "seg"), one(objects, "sr")


def test_a_report_names_the_one_it_follows_and_lesions_that_overlap_keep_their_tracking_uid(tmp_path):
    images = ct_series(6, 32)
    before = source_of(tmp_path / "before", images[:5])
    earlier, earlier_seg, earlier_report = earlier_of(tmp_path, before, two_lesions(before))
    source = source_of(tmp_path / "now", images)  # with a late image, below the others
    grid = source.volume("HPL")
    moved = segment(box(grid, (0, 11, 9), (4, 17, 21)), "Nodule 2")  # overlaps the earlier Nodule 1
    new = segment(box(grid, (0, 25, 25), (2, 28, 28)), "Nodule 1")
    organ = Segment(
        label="Lung", mask=box(grid, (0, 0, 0), (6, 32, 32)), category=codes.SCT.BodyStructure, type=codes.SCT.Lung
    )
    lesions = tuple(Lesion(segment=s, finding=codes.SCT.Nodule) for s in (new, moved))
    following = analysis(Findings(lesions=lesions, segments=(organ,)), generation=2)
    objects = encode(following, source, predecessor=earlier)
    check(objects, source, earlier)
    then, now = tracking(earlier_seg), tracking(one(objects, "seg"))
    assert now["Nodule 2"] == then["Nodule 1"]
    assert now["Nodule 1"] not in then.values()
    assert now["Lung"] not in then.values()
    predecessor = one(objects, "sr").PredecessorDocumentsSequence[0]
    assert predecessor.StudyInstanceUID == earlier_report.StudyInstanceUID
    assert predecessor.ReferencedSeriesSequence[0].SeriesInstanceUID == earlier_report.SeriesInstanceUID
    named = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == earlier_report.SOPInstanceUID
    assert one(objects, "sr").SOPInstanceUID == derive_uid(analysis_key(following, source), "sr")


def test_a_report_that_names_another_predecessor_than_its_own_is_caught(tmp_path):
    source = source_of(tmp_path / "now", ct_series(5, 32))
    earlier, _, _ = earlier_of(tmp_path, source, two_lesions(source))
    objects = encode(analysis(two_lesions(source), generation=2), source, predecessor=earlier)
    check(objects, source, earlier)
    with pytest.raises(GateError, match="which is no predecessor"):
        check(objects, source)


def test_a_first_report_follows_none(tmp_path):
    _, objects = encoded(tmp_path)
    assert "PredecessorDocumentsSequence" not in one(objects, "sr")


@pytest.fixture
def stored(tmp_path: Path) -> tuple[tuple[EncodedObject, ...], list[Path]]:
    """Results and the files that they are kept in."""
    _, objects = encoded(tmp_path)
    paths = [tmp_path / f"{number}.result" for number in range(len(objects))]
    for path, encoded_object in zip(paths, objects, strict=True):
        path.write_bytes(encoded_object.data)
    return objects, paths


WITHDRAWN = analysis(outcome="failed", reason="Withdrawn", findings=None)


@pytest.mark.parametrize("reason", REJECTIONS)
def test_a_rejection_note_names_every_object_with_its_coded_reason_and_the_patient_of_the_source(stored, reason):
    objects, paths = stored
    encoded_note = encode_rejection(WITHDRAWN, paths, reason)
    check_rejection(encoded_note, paths)
    note = encoded_note.dataset
    assert list(identity_faults(note, objects[0].dataset)) == []
    assert note.SOPClassUID == KeyObjectSelectionDocumentStorage
    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == (REJECTIONS[reason].value, "DCM")
    named = {
        str(item.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {str(o.dataset.SOPInstanceUID) for o in objects}
    assert note.SOPInstanceUID == derive_uid("rejection", WITHDRAWN.salt, reason, *sorted(named))


def test_notes_for_different_reasons_are_different_series(stored):
    _, paths = stored
    notes = [encode_rejection(WITHDRAWN, paths, reason).dataset for reason in REJECTIONS]
    assert len({note.SeriesInstanceUID for note in notes}) == len({note.SeriesDescription for note in notes}) == 4


FAULTS: dict[str, tuple[Change, str]] = {
    "another patient": (put(PatientID="OTHER"), "PatientID is not the source's"),
    "a title that rejects nothing": (
        lambda d: put(CodeValue="113000", CodeMeaning="Of Interest")(d.ConceptNameCodeSequence[0]),
        "no reason to reject",
    ),
    "an object that is not rejected": (lambda d: d.ContentSequence.pop(), "its content names 6 of the 7"),
    "something else rejected": (
        lambda d: put(ReferencedSOPInstanceUID="1.2.3")(d.ContentSequence[-1].ReferencedSOPSequence[0]),
        "neither source nor result",
    ),
    "no evidence": (put(CurrentRequestedProcedureEvidenceSequence=[]), "CurrentRequestedProcedureEvidenceSequence"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rejection_note_that_would_hide_the_wrong_thing_is_caught(stored, fault):
    _, paths = stored
    change, said = FAULTS[fault]
    note = encode_rejection(WITHDRAWN, paths, "safety")
    with pytest.raises(GateError, match=said):
        check_rejection(spoiled((note,), "rejection", change)[0], paths)


def test_a_retracted_job_sends_its_note_to_those_who_hold_its_results_and_to_nobody_else(tmp_path):
    _, objects = encoded(tmp_path / "source")
    datasets = [o.dataset for o in objects]
    with real_peers.storescp(tmp_path, "--promiscuous") as pacs:
        unreached = {**delivery_jobs.destination(pacs), "port": pacs.port + 1}
        job = delivery_jobs.FinishedJob(
            tmp_path / "node", datasets, {"pacs": delivery_jobs.destination(pacs), "unreached": unreached}
        )
        withdraw = partial(retract, Jobs(job.engine), job.engine, job.spool, delivery_jobs.JOB)
        with pytest.raises(NodeError, match="no destination holds anything"):
            withdraw("safety")
        job.deliver()
        begun: list[str] = []
        sa.event.listen(job.engine, "before_cursor_execute", lambda *of: begun.extend({of[2]} & {"BEGIN IMMEDIATE"}))
        withdraw("safety")
        assert len(begun) == 2, "the secret of the UIDs; note, holding and deliveries together"
        with job.engine.connect() as connection:
            assert [d.destination for d in deliveries_of(connection, delivery_jobs.JOB)] == ["pacs"]
        job.deliver()
        arrived = [dcmread(path) for path in pacs.files()]
    (note,) = [d for d in arrived if d.SOPClassUID == KeyObjectSelectionDocumentStorage]
    assert len(arrived) == len(datasets) + 1
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    assert job.status().state == "STORED"
    with pytest.raises(NodeError, match="retracted already"):
        withdraw("quality")
