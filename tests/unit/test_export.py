"""Verified cases as a training data set: voxels and lesions in place, nothing of the patient, splits by patient."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from pydicom import dcmread
from reader_edits import workstation_seg
from reader_site import Site

from node.__main__ import main
from node.errors import InputError
from node.feedback.case_export import ExportFiles, export_case
from node.feedback.data_set import splits_by_patient
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate


def export(site: Site, folder: Path) -> str:
    config = folder.parent / "config.toml"
    config.write_text(f'[storage]\nfolder = "{site.spool.folder}"\n')
    done = CliRunner().invoke(main, ["export", "nodule", str(folder), "--config", str(config)])
    assert (done.exit_code == 0) == ("DATA_CARD.md" in done.output), done.output
    return done.output


@pytest.mark.thorough
def test_verified_cases_become_a_data_set_without_a_header_of_the_patient(site: Site, tmp_path: Path):
    facts = {"outcome": "findings", "scanner": "Maker A", "slices": 8, "findings": 2, "scores": [], "device": "cpu"}
    with begin_immediate(site.engine) as connection:
        record_statistics(connection, site.job_id, "nodule", facts | {"run_seconds": 1.0})
    assert "no analysis of pipeline 'nodule'" in export(site, tmp_path / "set")
    first, second = site.masks
    edited = np.roll(site.masks[second], 1, axis=1)
    site.collect(workstation_seg(site.source, {"kept": site.masks[first], "edited": edited}))
    assert "1 cases with 2 lesions, patients: 1" in export(site, tmp_path / "set")
    folder = tmp_path / "set"
    document = json.loads((folder / "dataset.json").read_text())
    assert document["channel_names"] == {"0": "CT"}
    assert (document["numTraining"], document["labels"]) == (1, {"background": 0, "Nodule": 1})
    [image], [label] = (folder / "imagesTr").iterdir(), (folder / "labelsTr").iterdir()
    assert image.name == label.name.replace(".nii.gz", "_0000.nii.gz")
    values, marks = nibabel.load(image), nibabel.load(label)
    volume = site.source.volume()
    assert np.array_equal(np.asarray(values.dataobj).T, volume.array)
    assert np.array_equal(np.asarray(marks.dataobj).T > 0, (site.masks[first] | edited) > 0)
    here = np.argwhere(np.asarray(marks.dataobj))[0]
    there = volume.map_indices_to_reference(here[::-1][None].astype(float))[0]
    assert (values.affine @ [*here, 1])[:3] == pytest.approx(there * (-1, -1, 1))  # RAS and LPS
    header = dcmread(site.source.paths[0], stop_before_pixels=True)
    secrets = [str(header[k].value) for k in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID")]
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        assert not [secret for secret in secrets if secret.encode() in data or secret in path.name]
    card = (folder / "DATA_CARD.md").read_text()
    assert all(
        row in card for row in ("| patients | 1 |", "| accepted | 1 |", "| edited | 1 |", "| segmentation | 2 |")
    )
    assert not (folder / "splits_final.json").exists()
    assert "is not empty" in export(site, folder)


def test_images_that_may_show_text_are_not_exported(site: Site, tmp_path: Path):
    image = dcmread(site.source.paths[0])
    image.BurnedInAnnotation = "YES"
    image.save_as(tmp_path / "image.dcm")
    files = ExportFiles(
        images=(tmp_path / "image.dcm", *site.source.paths[1:]),
        parts=(),
        labels={"": 1},
        image=tmp_path / "i.nii.gz",
        map=tmp_path / "m.nii.gz",
    )
    with pytest.raises(InputError, match="may name the patient"):
        export_case(files)
    assert not (tmp_path / "i.nii.gz").exists()


def test_no_patient_is_in_both_parts_of_a_fold():
    patients = {f"case {n}": f"patient {n % 7}" for n in range(20)}
    folds = splits_by_patient(patients)
    assert len(folds) == 5
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(patients)
    for fold in folds:
        assert {patients[case] for case in fold["train"]}.isdisjoint(patients[case] for case in fold["val"])
        assert sorted(fold["train"] + fold["val"]) == sorted(patients)
    assert splits_by_patient({"a": "one", "b": "one"}) == []
