"""Similar findings in the PDF report: in its language, and a part of what identifies the analysis."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from analyses import analysis, box, segment, source_of
from dicom_files import ct_series

from node.config.pipelines import PipelineTable
from node.pipeline import Findings, Lesion, codes
from node.results.encode import encode
from node.results.similar_text import SimilarEntries, SimilarEntry, similar_lines
from node.results.uids import analysis_key
from node.studies.source import SourceSeries
from node.translation import in_language

ENTRY = SimilarEntry(long_axis_mm=8.25, seen_on="2026-03-01", verdict="accepted", later=(("2026-06-02", 9.0),))
BARE = SimilarEntry(long_axis_mm=None, seen_on="2026-02-01", verdict="", later=())
SIMILAR = SimilarEntries(by_label={"Nodule 1": (ENTRY, BARE)}, statement=("Measured.", {"de": "Gemessen."}))


def test_a_line_names_size_day_verdict_and_later_studies_in_the_language_of_the_page():
    assert similar_lines(SIMILAR, "en")[1:] == [
        "Nodule 1: 8 mm (2026-03-01), accepted, later 9 mm (2026-06-02); 2026-02-01, no verdict",
        "Measured.",
    ]
    with in_language("de"):
        lines = similar_lines(SIMILAR, "de")
    assert "später 9 mm (2026-06-02)" in lines[1]
    assert lines[2] == "Gemessen."
    assert similar_lines(replace(SIMILAR, by_label={"Nodule 1": ()}), "en") == []


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return source_of(tmp_path, ct_series(4, 40))


def test_the_pdf_lists_similar_findings_and_no_other_object_does(source: SourceSeries, tmp_path: Path):
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    mask = box(source.volume(), (1, 5, 5), (3, 15, 15))
    findings = Findings(lesions=(Lesion(segment=segment(mask, "Nodule 1"), finding=codes.SCT.Nodule),))
    listed = replace(analysis(findings), similar=SIMILAR)
    for instance in encode(listed, source, ["seg", "sr", "pdf"]):
        if instance.kind != "pdf":
            assert b"2026-03-01" not in instance.data
            continue
        file = tmp_path / "report.pdf"
        file.write_bytes(instance.dataset.EncapsulatedDocument)
        text = subprocess.run([program, file, "-"], check=True, capture_output=True, text=True).stdout
        assert "8 mm (2026-03-01), accepted" in " ".join(text.split())
        assert "Measured." in text


def test_another_list_is_another_analysis(source: SourceSeries):
    plain = analysis(Findings(looked_for=(codes.SCT.Nodule,)))
    keys = {analysis_key(of, source) for of in (plain, replace(plain, similar=SIMILAR))}
    assert len(keys) == 2


def test_a_list_in_the_pdf_needs_embeddings():
    with pytest.raises(ValueError, match="set similar_findings = true"):
        PipelineTable(similar_in_pdf=True)
    assert PipelineTable(similar_in_pdf=True, similar_findings=True).similar_in_pdf
