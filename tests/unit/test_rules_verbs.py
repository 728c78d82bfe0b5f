"""``ainode rules test`` and ``replay``: what rules say of files and of the past, with nothing run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dicom_files import ct_series, text_report, write
from pydicom.uid import generate_uid
from routing_scene import BRAIN, CHEST, Scene

from node.__main__ import main


def ask(*arguments: object) -> Any:
    done = CliRunner().invoke(main, ["rules", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def words(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["rules", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CHEST)
    return path


@pytest.mark.thorough
def test_files_are_routed_with_their_trace_and_the_best_of_a_study_is_chosen(tmp_path: Path, config: Path):
    study = str(generate_uid())
    for thickness in ("5", "1"):
        images = ct_series(n=3, size=16, study=study)
        for image in images:
            image.SliceThickness, image.FrameOfReferenceUID = thickness, "1.2.3"
            image.SeriesDescription = f"Chest {thickness} mm"
        write(images, tmp_path / "files" / thickness)
    write([text_report(study=study)], tmp_path / "files" / "report")
    (tmp_path / "files" / "notes.txt").write_text("no DICOM")
    thick, thin, report = sorted(
        ask("test", "--config", config, tmp_path / "files"), key=lambda a: (a["images"] == 1, a["outcome"])
    )
    assert (thin["outcome"], [r["pipeline"] for r in thin["routes"]]) == ("routed", ["scripted"])
    assert thick["outcome"] == "ignored"
    assert "1 mm slices, this one 5 mm slices" in thick["trace"][0]["note"]
    assert report["reason"] == "its objects are no images"
    told = words("test", "--config", config, tmp_path / "files")
    assert "-> scripted, results to pacs (medium priority)" in told
    assert "yes Modality wanted CT, found CT" in told
    assert "CT 'Chest 5 mm'" in told
    assert "1 file is not DICOM" in told


@pytest.mark.thorough
def test_a_sender_can_be_supposed(tmp_path: Path, config: Path):
    config.write_text(CHEST.replace("prefer =", 'senders = ["CT1"]\n# prefer ='))
    (path, *_) = write(ct_series(n=2, size=16), tmp_path / "files")
    (answer,) = ask("test", "--config", config, path, "--sender", "CT1@10.1.2.3")
    assert answer["outcome"] == "routed"
    (answer,) = ask("test", "--config", config, path)
    assert answer["outcome"] == "ignored"


@pytest.mark.thorough
def test_a_missing_companion_is_named(tmp_path: Path, config: Path):
    config.write_text(BRAIN)
    images = ct_series(n=2, size=16)
    for image in images:
        image.SeriesDescription = "FLAIR"
    write(images, tmp_path / "files")
    (answer,) = ask("test", "--config", config, tmp_path / "files")
    assert answer["trace"][0]["note"] == "'t1c' did not come within 600 s"


@pytest.mark.thorough
def test_replay_names_the_series_that_a_new_file_would_route_differently_and_runs_nothing(tmp_path: Path):
    storage = f'\n[storage]\nfolder = "{tmp_path / "node"}"\n'
    old, same, new = (tmp_path / name for name in ("old.toml", "same.toml", "new.toml"))
    rule = CHEST.replace('prefer = ["axial", { ConvolutionKernel = ["B70*", "LUNG"] }, "thinnest"]\n', "")
    old.write_text(rule + storage)
    same.write_text(rule.replace('"chest"', '"another name"'))
    new.write_text(CHEST)
    scene = Scene(tmp_path / "node", rule)
    thick, thin = scene.receive(SliceThickness="5"), scene.receive(SliceThickness="1")
    report = scene.receive([text_report(study=scene.study)])
    scene.wait(15)
    jobs = len(scene.jobs())
    assert jobs == 2
    assert ask("replay", "--config", old, same) == {"series": 3, "changes": [], "unreadable": []}
    answer = ask("replay", "--config", old, new, "--since", "1d")
    (change,) = answer["changes"]
    assert change["series_instance_uid"] == thick
    assert (change["before"], change["after"]) == ({"scripted": ["pacs"]}, {})
    assert thin in change["trace"][0]["note"]
    assert "1 would be routed differently" in words("replay", "--config", old, new)
    for path in (tmp_path / "node" / "incoming").rglob("*"):
        if path.is_file() and report in str(path):
            path.unlink()
    assert ask("replay", "--config", old, same)["unreadable"] == [report]
    assert len(scene.jobs()) == jobs


def test_a_span_that_is_none_is_refused(tmp_path: Path, config: Path):
    done = CliRunner().invoke(main, ["rules", "replay", "--config", str(config), "--since", "month", str(config)])
    assert done.exit_code == 2
    assert "12h or 30d" in done.output


def reroute(*arguments: object) -> str:
    done = CliRunner().invoke(main, ["reroute", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.thorough
def test_series_that_were_ignored_are_routed_by_corrected_rules_and_no_others(tmp_path: Path):
    storage = f'\n[storage]\nfolder = "{tmp_path / "node"}"\n'
    corrected = tmp_path / "corrected.toml"
    rule = CHEST.replace('prefer = ["axial", { ConvolutionKernel = ["B70*", "LUNG"] }, "thinnest"]\n', "")
    corrected.write_text(rule + storage)
    mistaken = rule.replace('Modality = "CT"', 'Modality = "CT", SliceThickness = "1"')
    scene = Scene(tmp_path / "node", mistaken)
    ignored, routed = scene.receive(SliceThickness="5"), scene.receive(SliceThickness="1")
    scene.wait(15)
    assert [job.series_instance_uid for job in scene.jobs()] == [routed]

    text = reroute("--config", corrected, "--rule", "chest")
    assert f"series {ignored}" in text
    assert routed not in text
    assert "1 series would be routed; nothing was changed" in text
    scene.wait(15)
    assert len(scene.jobs()) == 1

    scene = Scene(tmp_path / "node", rule)  # the reloaded node
    assert "1 series is decided on again" in reroute("--config", corrected, "--apply")
    scene.wait(15)
    assert sorted(job.series_instance_uid for job in scene.jobs()) == sorted([ignored, routed])
    assert "0 series are decided on again" in reroute("--config", corrected, "--apply")
    scene.wait(15)
    assert len(scene.jobs()) == 2


def test_reroute_names_a_rule_that_does_not_exist(config: Path):
    done = CliRunner().invoke(main, ["reroute", "--config", str(config), "--rule", "brain"])
    assert done.exit_code != 0
    assert "no rule of this name" in done.output
