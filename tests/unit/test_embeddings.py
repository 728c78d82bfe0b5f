"""Embeddings of lesions: the contract, the file between the processes, and what encoding takes from them."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from analyses import analysis, box, segment, source_of
from dicom_files import ct_series

from node.inference.encode_task import EncodedFile
from node.inference.finding_embeddings import Examined, embeddings_of
from node.inference.handover import Handover, load, save
from node.pipeline import Algorithm, EmbeddingSpace, Findings, Lesion, Sentence, codes
from node.results.encode import encode
from node.studies.source import SourceSeries

SPACE = EmbeddingSpace(name="flat-1", dimensions=2, statement=Sentence("Measured.", {"de": "Gemessen."}))


def lesion(source: SourceSeries, label: str = "Nodule 1", embedding: object = (3.0, 4.0)) -> Lesion:
    mask = box(source.volume(), (1, 5, 5), (3, 15, 15))
    return Lesion(segment=segment(mask, label), finding=codes.SCT.Nodule, embedding=embedding)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return source_of(tmp_path, ct_series(4, 40))


@pytest.mark.parametrize("bad", [(0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_an_embedding_without_a_direction_is_refused(source: SourceSeries, bad: tuple[float, ...]):
    with pytest.raises(ValueError, match="has no direction"):
        lesion(source, embedding=bad)


def test_an_embedding_needs_its_space_and_as_many_numbers(source: SourceSeries):
    nodule = lesion(source, embedding=np.array([1, 2], np.float32))
    assert nodule.embedding == (1.0, 2.0)
    with pytest.raises(ValueError, match="embedding_space"):
        Findings(lesions=(nodule,))
    with pytest.raises(ValueError, match="has 2 numbers; flat-3 has 3"):
        Findings(lesions=(nodule,), embedding_space=replace(SPACE, name="flat-3", dimensions=3))
    assert Findings(lesions=(nodule, lesion(source, "Nodule 2", ())), embedding_space=SPACE).embedding_space is SPACE


@pytest.mark.parametrize("bad", [{"name": "two words"}, {"name": ""}, {"dimensions": 1}, {"statement": ""}])
def test_a_space_that_cannot_be_named_or_says_nothing_is_refused(bad: dict[str, object]):
    with pytest.raises(ValueError, match="EmbeddingSpace"):
        replace(SPACE, **bad)


def test_embeddings_survive_the_file_between_the_processes(source: SourceSeries, tmp_path: Path):
    findings = Findings(lesions=(lesion(source), lesion(source, "Nodule 2", ())), embedding_space=SPACE)
    run = Handover(
        findings=findings,
        algorithm=Algorithm(name="A", version="1"),
        device="cpu",
        analysed_at=datetime(2026, 1, 2, tzinfo=UTC),
        timings={},
        peak_memory_mib={},
    )
    save(tmp_path / "work", run)
    again = load(tmp_path / "work", 4 * 40 * 40).findings
    assert [tuple(nodule.embedding) for nodule in again.lesions] == [(3.0, 4.0), ()]
    assert again.embedding_space == SPACE
    assert isinstance(again.embedding_space.statement, Sentence)
    assert again.embedding_space.statement.translations == {"de": "Gemessen."}


@pytest.mark.parametrize(("kinds", "axis"), [(["seg", "sr"], True), (["seg"], False)])
def test_encoding_returns_embeddings_under_the_tracking_uid_and_no_object_has_them(
    source: SourceSeries, tmp_path: Path, kinds: list[str], *, axis: bool
):
    findings = Findings(lesions=(lesion(source),), embedding_space=SPACE)
    objects = encode(analysis(findings), source, kinds)
    without = encode(analysis(Findings(lesions=(lesion(source, embedding=()),))), source, kinds)
    assert [instance.data for instance in objects] == [instance.data for instance in without]
    files = []
    for number, instance in enumerate(objects):
        (tmp_path / f"{number}.dcm").write_bytes(instance.data)
        files.append(EncodedFile(name=f"{number}.dcm", kind=instance.kind, description=instance.description))
    of = Examined.of(source.datasets[0], "salt")
    embeddings = embeddings_of(findings, files, tmp_path, of)
    assert embeddings is not None
    (nodule,) = embeddings.lesions
    seg = next(o.dataset for o in objects if o.kind == "seg")
    assert (nodule.lesion, nodule.label) == (seg.SegmentSequence[0].TrackingUID, "Nodule 1")
    assert nodule.vector == array("f", (0.6, 0.8)).tobytes()
    assert (nodule.long_axis_mm is not None) is axis
    assert (embeddings.space, embeddings.statement) == ("flat-1", ("Measured.", {"de": "Gemessen."}))
    assert embeddings_of(replace(findings, embedding_space=None, lesions=()), files, tmp_path, of) is None
    assert nodule.study_date == source.datasets[0].get("StudyDate", "")
    assert nodule.patient == Examined.of(source.datasets[-1], "salt").patient
    assert nodule.patient != Examined.of(source.datasets[0], "another").patient
    assert str(source.datasets[0].PatientID) not in nodule.patient
