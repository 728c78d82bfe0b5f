"""The report of a trial as a PDF: figures, and pictures of the lesions on which both sides disagree."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from pydicom import FileDataset
from reader_edits import cube, workstation_seg
from reader_site import SEG, Site

from node.__main__ import main
from node.feedback.trial_reading import read_trial
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import NewJob
from node.ledger.retention import purge_images
from node.ledger.states import ShadowCause
from node.ledger.tables import job, result

SCANNER = "Maker One"
FACT = {
    "outcome": "findings", "scanner": SCANNER, "slices": 8, "findings": 2, "scores": [], "device": "cpu",
    "run_seconds": 12.5, "host_mib": 900.0, "version": "1.2", "weights": "ab" * 32,
}  # fmt: skip


def try_candidate(site: Site, seg: FileDataset) -> None:
    """Record a candidate in shadow that made ``seg`` of the series of the site."""
    with begin_immediate(site.engine) as connection:
        series = site.source.series_instance_uid
        new = NewJob(
            study_instance_uid=site.study, series_instance_uid=series, generation=1, pipeline="nodule-2", rule="chest",
            destinations=("pacs",), priority=4, shadow=ShadowCause.TRIAL,
        )  # fmt: skip
        create_job(connection, new)
        buffer = BytesIO()
        seg.save_as(buffer, enforce_file_format=True)
        kept = site.spool.keep_result(new.id, seg.SOPInstanceUID, buffer.getvalue())
        connection.execute(
            sa.insert(result).values(
                sop_instance_uid=seg.SOPInstanceUID, job_id=new.id, sop_class_uid=SEG,
                transfer_syntax_uid="1.2.840.10008.1.2.1", series_instance_uid=seg.SeriesInstanceUID,
                description="", path=kept.path, digest=kept.digest, size=kept.size, created_at=1002.0,
            )
        )  # fmt: skip
        record_outcome(connection, new.id, "findings", None)
        connection.execute(sa.update(job).where(job.c.id == new.id).values(state="COMPLETED"))
        record_statistics(connection, site.job_id, "nodule", FACT)
        record_statistics(connection, new.id, "nodule-2", FACT | {"weights": "cd" * 32, "run_seconds": 20.0})


@pytest.fixture
def tried(site: Site) -> Site:
    """The candidate misses one of both lesions, outlines the other one elsewhere in part, and reports a third."""
    first, second = site.masks
    shape = site.masks[first].shape
    low = np.argwhere(site.masks[second]).min(axis=0)
    grown = site.masks[second] | cube(shape, (low[0], 2, 2), (low[0] + 2, 20, 20))
    new = cube(shape, (0, 2, shape[2] - 12), (1, 8, shape[2] - 4))
    masks = {"grown": grown, "new": new}
    tracking = {"grown": "1.2.3.1", "new": "1.2.3.2"}
    try_candidate(site, workstation_seg(site.source, masks, tracking=tracking, algorithm="AUTOMATIC"))
    site.collect(workstation_seg(site.source, {"kept": site.masks[first], "more": new}))
    return site


def report(tmp_path: Path, *arguments: str) -> Result:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[storage]\nfolder = "{tmp_path / "node"}"\n[web]\nlink_base = "https://ainode.example"\n'
        '[pipelines.nodule]\nfactory = "job_pipelines:create"\n[pipelines.nodule-2]\nfactory = "job_pipelines:create"\n'
    )
    arguments = ("trial", "report", "nodule", "nodule-2", *arguments, "--config", str(config))
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done


def text_of(pdf: Path) -> str:
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    done = subprocess.run([program, "-layout", pdf, "-"], capture_output=True, check=True)
    return " ".join(done.stdout.decode().split())


def pictures_in(pdf: Path) -> int:
    """How many JPEG images it has; the plot is none."""
    return pdf.read_bytes().count(b"/DCTDecode")


@pytest.mark.thorough
def test_the_pdf_shows_each_disagreement_with_its_size_and_what_a_reader_said(tried: Site, tmp_path: Path):
    pdf = tmp_path / "trial.pdf"
    assert "1 of the champion alone" in report(tmp_path, "--pdf", str(pdf)).output
    text = text_of(pdf)
    for part in (
        "Trial: nodule-2 beside nodule",
        "1 series of 1 scanner model, analysed by both from",
        "ab" * 16,  # the rest is on the next line
        "median 12.5 s",
        "900 MiB",
        "McNemar's exact test",
        "Candidate misses it",
        "Disagreements on lesions: 3",
        f"{SCANNER}: 3",
        "champion alone: ",
        "candidate alone: ",
        "reader: accepted",
        "reader: rejected",
        "reader: added",
        f"https://ainode.example/study/{tried.study}",
    ):
        assert part in text, part
    assert pictures_in(pdf) == 3
    assert str(tried.source.datasets[0].PatientName) not in text
    assert str(tried.source.datasets[0].PatientID) not in text


@pytest.mark.thorough
def test_the_largest_disagreements_are_drawn_and_the_pdf_counts_the_others(
    tried: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("node.feedback.trial_reading.MOST_PICTURES", 1)
    report(tmp_path, "--pdf", str(tmp_path / "trial.pdf"))
    text = text_of(tmp_path / "trial.pdf")
    assert "The 1 largest are shown; 2 smaller ones were left out." in text
    assert f"{SCANNER}: 3, 1 shown" in text
    [shown] = read_trial(tried.engine, tried.spool, "nodule", "nodule-2", 9, pictures=1).pictures
    assert shown.lesion.champion
    assert shown.lesion.candidate == "1.2.3.1"


@pytest.mark.thorough
def test_the_pdf_says_whose_images_retention_has_purged(tried: Site, tmp_path: Path):
    with begin_immediate(tried.engine) as connection:
        purge_images(connection, tried.study, tried.source.series_instance_uid)
    pdf = tmp_path / "trial.pdf"
    done = json.loads(report(tmp_path, "--json", "--pdf", str(pdf)).stdout)
    assert (done["analyses"], done["without_masks"], done["without_images"]) == (1, 1, 1)
    text = text_of(pdf)
    assert "1 series without masks that can be compared; of 1 retention has purged the images" in text
    assert f"retention has purged their images: {tried.study}" in text
    assert pictures_in(pdf) == 0
