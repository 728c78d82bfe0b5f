"""UIDs of results: nobody can foresee them, everything that influences an output is in them, a repeat keeps them."""

from __future__ import annotations

import logging
import stat
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import postgres
import pytest
from analyses import ALGORITHM, analysis, halved, source_of, two_lesions
from dicom_files import ct_series
from job_node import JobNode, config_of

from node import __version__
from node.inference.encode_stage import Encode
from node.inference.handover import Handover, save
from node.inference.node_secret import FILE, secret_of
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.jobs import update_job
from node.pipeline import Findings, codes
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.rejection import encode_rejection
from node.results.similar_text import SimilarEntries, SimilarEntry
from node.studies.source import SourceSeries

EVERY = ("seg", "sr", "derived", "presentation state")


def uids(found: Analysis, source: SourceSeries) -> set[str]:
    """SOP and Series Instance UIDs of all objects of an analysis, and the tracking UIDs of its lesions."""
    made = set()
    for encoded in encode(found, source, EVERY):
        dataset = encoded.dataset
        made |= {str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)}
        made |= {str(segment.TrackingUID) for segment in dataset.get("SegmentSequence", ()) if "TrackingUID" in segment}
    return made


def found_on(source: SourceSeries, **changes: Any) -> Analysis:
    findings = Findings(lesions=two_lesions(source).lesions, derived=halved(source).derived)
    return analysis(findings, **changes)


SIMILAR = SimilarEntry(long_axis_mm=8.0, seen_on="2026-01-31", verdict="", later=())
OTHERWISE: dict[str, dict[str, Any]] = {
    "pipeline": {"pipeline": "other"},
    "algorithm": {"algorithm": replace(ALGORITHM, name="Other")},
    "algorithm version": {"algorithm": replace(ALGORITHM, version="1.3")},
    "algorithm family": {"algorithm": replace(ALGORITHM, family=codes.SCT.Nodule)},
    "algorithm weights": {"algorithm": replace(ALGORITHM, weights_sha256="cd" * 32)},
    "algorithm option": {"algorithm": replace(ALGORITHM, parameters={**ALGORITHM.parameters, "threshold": "0.6"})},
    "algorithm precision": {"algorithm": replace(ALGORITHM, parameters={**ALGORITHM.parameters, "precision": "fp16"})},
    "algorithm one more option": {"algorithm": replace(ALGORITHM, parameters={**ALGORITHM.parameters, "window": "9"})},
    "algorithm scope": {"algorithm": replace(ALGORITHM, scope="finds nothing")},
    "generation": {"generation": 2},
    "version": {"version": 2},
    "title": {"title": "another"},
    "caveat": {"caveat": "an image is missing"},
    "outcome": {"outcome": "partial", "reason": "half of it"},
    "reason": {"outcome": "partial", "reason": "another half"},
    "withheld": {"withheld": ("Not sent: pdf",)},
    "inputs": {"inputs": ("t1c 1.2.3",)},
    "images": {"images": (("1.2.3", None),)},
    "images of other frames": {"images": (("1.2.3", 2),)},
    "languages": {"languages": ("de", "fr")},
    "link": {"link": "https://ai.example.org/study/1.2.3"},
    "similar": {"similar": SimilarEntries(by_label={}, statement=("Precise.", {}))},
    "similar findings": {"similar": SimilarEntries(by_label={"N1": (SIMILAR,)}, statement=("Precise.", {}))},
    "salt": {"salt": "another"},
}
NOT_IN_UIDS = {"findings", "analysed_at", "timings", "replaces", "of_volumes"}
"""What the same pipeline finds, and when: a repeat makes the same instances. ``replaces`` follows from ``version``,
``of_volumes`` from ``inputs``, where the images of the other volumes are."""


def test_every_field_of_an_analysis_is_looked_at():
    assert {name.split()[0] for name in OTHERWISE} == {field.name for field in fields(Analysis)} - NOT_IN_UIDS


def test_whatever_influences_an_output_changes_every_uid_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = ct_series(4, 32)
    source = source_of(tmp_path / "images", images)
    seen = {"as it was": uids(found_on(source), source)}
    assert uids(found_on(source, analysed_at=datetime.now(UTC), timings={}), source) == seen["as it was"]
    for name, changes in OTHERWISE.items():
        seen[name] = uids(found_on(source, **changes), source)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName", "AccessionNumber"):
        for image in images:
            setattr(image, keyword, "1.2.3.4")
        other = source_of(tmp_path / keyword, images)
        seen[keyword] = uids(found_on(other), other)
    one_less = source_of(tmp_path / "fewer", images[:3])
    seen["images"] = uids(found_on(one_less), one_less)
    monkeypatch.setattr("node.results.uids.__version__", f"{__version__}.1")
    seen["version of the node"] = uids(found_on(source), source)
    for name, ours in seen.items():
        for other_name, others in seen.items():
            assert name == other_name or not ours & others, (name, other_name)


def test_a_note_that_withdraws_results_cannot_be_foreseen_either(tmp_path: Path):
    source = source_of(tmp_path / "images", ct_series(4, 32))
    results = []
    for number, encoded in enumerate(encode(found_on(source), source)):
        results.append(tmp_path / f"{number}.dcm")
        results[-1].write_bytes(encoded.data)
    withdrawn = analysis(outcome="failed", reason="Withdrawn", findings=None)
    notes = [
        encode_rejection(replace(withdrawn, salt=salt), results, "safety").dataset for salt in ("one", "other", "other")
    ]
    assert len({note.SOPInstanceUID for note in notes}) == len({note.SeriesInstanceUID for note in notes}) == 2


def analysed(folder: Path, images: Any, url: str = "") -> set[str]:
    """SOP Instance UIDs of what a node makes of the same findings in the same images."""
    node = JobNode(config_of(folder, url))
    job_id = node.enqueue(images)
    save(
        node.spool.work(job_id),
        Handover(
            findings=Findings(),
            algorithm=ALGORITHM,
            device="cpu",
            analysed_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
            timings={},
            peak_memory_mib={},
        ),
    )
    with begin_immediate(node.engine) as connection:
        update_job(connection, job_id, outcome="no findings")
    done = Encode(node.config, node.engine, node.spool).encode(job_id, "")
    with begin_immediate(node.engine) as connection:
        done.write(connection)
    made = {row.sop_instance_uid for row in node.results(job_id)}
    node.engine.dispose()
    assert made
    return made


def lose_ledger(folder: Path) -> None:
    for file in folder.glob("ledger.sqlite*"):
        file.unlink()


def test_two_nodes_make_different_instances_of_the_same_analysis(tmp_path: Path):
    images = ct_series(4, 16)
    assert not analysed(tmp_path / "a", images) & analysed(tmp_path / "b", images)


def test_a_ledger_rebuilt_from_the_files_makes_the_same_instances(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    images = ct_series(4, 16)
    before = analysed(tmp_path, images)
    lose_ledger(tmp_path)
    assert analysed(tmp_path, images) == before
    assert "takes the secret of earlier results" in caplog.text


def test_a_lost_file_is_written_again_and_only_its_owner_may_read_it(tmp_path: Path):
    images = ct_series(4, 16)
    before = analysed(tmp_path, images)
    for spoil in (Path.unlink, lambda file: file.write_bytes(b"")):
        spoil(tmp_path / FILE)
        node = JobNode(config_of(tmp_path))
        salt = secret_of(node.engine, tmp_path)
        assert (tmp_path / FILE).read_text() == f"{salt}\n"
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    lose_ledger(tmp_path)
    assert analysed(tmp_path, images) == before


def test_nothing_is_lost_or_silent_when_folder_and_ledger_do_not_belong_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    images = ct_series(4, 16)
    before = analysed(tmp_path, images)
    (tmp_path / FILE).write_text("ab" * 32)
    node = JobNode(config_of(tmp_path))
    salt = secret_of(node.engine, tmp_path)
    assert salt != "ab" * 32
    assert (tmp_path / FILE).read_text() == "ab" * 32
    assert "is not the secret that the ledger has" in caplog.text
    lose_ledger(tmp_path)
    (tmp_path / FILE).unlink()
    caplog.clear()
    assert not analysed(tmp_path, images) & before
    assert "neither the ledger nor" in caplog.text


def test_machines_with_one_database_have_one_secret(tmp_path: Path, postgres_server: str):
    url = postgres.new_database(postgres_server, "salt")
    salts = set()
    for name in ("a", "b"):
        (tmp_path / name / "results").mkdir(parents=True)
        engine = open_ledger(url)
        salts.add(secret_of(engine, tmp_path / name))
        engine.dispose()
    assert len(salts) == 1
    assert (tmp_path / "a" / FILE).read_text() == (tmp_path / "b" / FILE).read_text()


def test_the_secret_is_in_no_log_and_in_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    node = JobNode(config_of(tmp_path))
    salt = secret_of(node.engine, tmp_path)
    analysed(tmp_path, ct_series(4, 16))
    assert salt not in caplog.text
    assert salt not in repr(analysis(outcome="failed", reason="x", findings=None, salt=salt))
    assert all(salt.encode() not in path.read_bytes() for path in (tmp_path / "results").rglob("*.dcm"))
