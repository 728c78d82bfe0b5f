"""What the documentation says is so: commands, keys, verbs, statuses, links, and the plug-in that it shows."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import dicom_files
import highdicom
import numpy as np
import pytest
from pydantic import BaseModel

import node.errors
from node import __version__
from node.__main__ import main
from node.config import Config, PipelineTable, parse
from node.config.characteristics import CHARACTERISTICS
from node.inference.plugins import load_pipeline
from node.inference.run_pipeline import analyse
from node.ledger import DeliveryState, JobState
from node.pipeline import VOLUME_KEYS
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.gate.check import check, walk
from node.studies.source import SourceSeries

ROOT = Path(__file__).parents[2]
FOLDERS = (".github", "docs", "node", "pipelines", "systemd")
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MARKDOWN = [*ROOT.glob("*.md"), *(path for part in FOLDERS for path in (ROOT / part).rglob("*.md"))]
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
PLUGIN = TEXT["write-a-pipeline.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT[page], re.DOTALL)


def tables_of(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every table of config.toml with its keys; ``[pipelines.NAME]`` is ``pipelines.NAME``."""
    yield name, set(model.model_fields)
    for key, field in model.model_fields.items():
        arguments = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [a for a in arguments if inspect.isclass(a) and issubclass(a, BaseModel)]
        where = f"{name}.{key}" if name else key
        many = ".NAME" if "dict" in str(field.annotation) else ""
        for table in inner:
            yield from tables_of(table, where + many)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT[page.name]):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page that are neither tables nor code."""
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside and not re.match(r" {4}|\|", line):
            yield number, line


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_is_wrapped_at_120_characters(page: Path):
    assert [(number, line) for number, line in prose(page) if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_sentence_begins_with_its_exception(page: Path):
    """The rule comes first. What every result says of diagnosis is a fixed phrase."""
    text = " ".join(" ".join(line.strip().lstrip("*-#0123456789. ") for _, line in prose(page)).split())
    begun = re.findall(
        r"(?:^|[.!?] |[.!?]\*\* )(?:Not|None|Nor|Else)\b(?! for diagnosis)(?! a medical device)[^.]{0,60}", text
    )
    assert begun == []


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    wanted = {line.split()[1] for line in TEXT["README.md"].splitlines() if line.startswith("    make ")}
    assert wanted == {"demo", "test"}
    for target in wanted:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "STUDIES" in makefile


def test_the_first_screen_of_the_readme_has_a_picture_and_both_commands():
    screen = "\n".join(TEXT["README.md"].splitlines()[:20])
    assert "![" in screen
    assert "make demo" in screen
    assert "make test" in screen


@pytest.mark.parametrize("page", TEXT)
def test_every_verb_that_a_page_names_exists(page: str):
    for verb in re.findall(r"`ainode ([a-z]+)", TEXT[page]):
        assert verb in main.commands, f"{page}: ainode {verb}"


def test_every_verb_is_in_the_operators_table():
    told = set(re.findall(r"^\| `ainode ([a-z]+)", TEXT["operate.md"], re.MULTILINE))
    assert told == set(main.commands)


def test_options_that_pages_give_to_a_verb_exist():
    for text in TEXT.values():
        for verb, inner, option in re.findall(r"`ainode ([a-z]+) ?([a-z]*)[^`]*?(--[a-z-]+)", text):
            command = main.commands[verb]
            if isinstance(command, click.Group):
                command = command.commands[inner]
            known = [name for parameter in command.params for name in parameter.opts]
            assert option in known, f"ainode {verb} {option}"


def test_exit_statuses_are_those_of_the_error_classes():
    classes = [c for _, c in inspect.getmembers(node.errors, inspect.isclass) if issubclass(c, node.errors.NodeError)]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT["operate.md"], re.MULTILINE)}
    assert told == {0, *(c.exit_code for c in classes)}


def test_configuration_keys_in_the_pages_exist():
    known = dict(tables_of(Config))
    keys = {key for names in known.values() for key in names} | {*CHARACTERISTICS, *VOLUME_KEYS}
    for name, text in TEXT.items():
        for table, key in re.findall(r"`\[([a-zA-Z.]+)\] ([a-z_]+)", text):
            assert table in known, f"{name}: [{table}]"
            assert key in known[table], f"{name}: [{table}] {key}"
        for table in re.findall(r"`\[+([a-zA-Z.]+)\]+`", text):
            assert table in known, f"{name}: [{table}]"
        for key in re.findall(r"`(?!test_)([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", text):
            assert key in keys, f"{name}: {key}"


def test_characteristics_in_the_page_of_rules_are_those_that_rules_know():
    rows = dict(re.findall(r"^\| `([a-z_]+)`[^|]*\| ([^|]*) \|", TEXT["rules.md"], re.MULTILINE))
    for name, values in CHARACTERISTICS.items():
        assert re.findall(r"`([^`]+)`", rows[name]) == list(values)


def test_every_key_of_volumes_is_in_the_page():
    rows = re.findall(r"^\| (`[^|]*) \|", PLUGIN, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) >= set(VOLUME_KEYS)


def test_states_in_the_operators_page_are_those_of_the_ledger():
    for state in (*JobState, *DeliveryState):
        assert state in TEXT["operate.md"]


def test_the_plugin_of_the_page_is_as_short_as_promised():
    code, *_ = blocks("write-a-pipeline.md", "python")
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 20


def test_the_plugin_of_the_page_loads_by_its_configuration_and_its_result_passes_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code, *_ = blocks("write-a-pipeline.md", "python")
    (tmp_path / "bone.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    first, *_ = blocks("write-a-pipeline.md", "toml")
    config = parse(first)
    pipeline: Any = load_pipeline("bone", config.pipelines["bone"], "cpu")
    assert pipeline.algorithm.parameters == {"threshold_hu": "250.0"}
    hu = np.full((12, 32, 32), 40, np.int32)
    hu[4:9, 8:20, 5:15] = 700
    paths = dicom_files.write(dicom_files.ct_series(volume=hu), tmp_path / "scan")
    source = SourceSeries.read(paths)
    findings = pipeline.run(source)
    analysis = Analysis(
        pipeline="bone",
        algorithm=pipeline.algorithm,
        generation=1,
        outcome="measured",
        findings=findings,
        analysed_at=datetime.now(UTC),
    )
    objects = encode(analysis, source)
    check(objects, source)
    (seg,) = [entry.dataset for entry in objects if entry.kind == "seg"]
    volume = highdicom.seg.Segmentation.from_dataset(seg).get_volume(combine_segments=True)
    assert int((volume.array > 0).sum()) == 5 * 12 * 10


def test_the_pipeline_of_the_page_without_a_mask_reports_its_numbers_of_a_normal_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, code, *_ = blocks("write-a-pipeline.md", "python")
    (tmp_path / "emphysema_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    pipeline: Any = load_pipeline("emphysema", PipelineTable(factory="emphysema_of_the_page:create"), "cpu")
    hu = np.full((12, 32, 32), 40, np.int32)
    source = SourceSeries.read(dicom_files.write(dicom_files.ct_series(volume=hu), tmp_path / "scan"))
    outcome, reason, findings = analyse(pipeline, source)
    assert (outcome, reason) == ("no findings", "")
    analysis = Analysis(
        pipeline="emphysema",
        algorithm=pipeline.algorithm,
        generation=1,
        outcome=outcome,
        findings=findings,
        analysed_at=datetime.now(UTC),
    )
    objects = encode(analysis, source, ("sr", "pdf"))
    check(objects, source)
    (report,) = [entry.dataset for entry in objects if entry.kind == "sr"]
    numbers = {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in walk(report)
        if item.get("ValueType") == "NUM"
    }
    assert numbers == {"LAA-950 index": 0, "Certainty of Finding": 0, "CAD Operating Point": 20}


def test_the_label_map_of_the_page_becomes_a_seg_of_its_structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (code,) = (code for code in blocks("write-a-pipeline.md", "python") if "class Tissues:" in code)
    (tmp_path / "tissues_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    pipeline: Any = load_pipeline("tissues", PipelineTable(factory="tissues_of_the_page:create"), "cpu")
    hu = np.full((12, 32, 32), -1000, np.int32)
    hu[2:10, 4:28, 4:28], hu[4:9, 8:20, 5:15], hu[5:6, 9:11, 6:8] = -700, 40, 700
    source = SourceSeries.read(dicom_files.write(dicom_files.ct_series(volume=hu), tmp_path / "scan"))
    outcome, _, findings = analyse(pipeline, source)
    analysis = Analysis(
        pipeline="tissues",
        algorithm=pipeline.algorithm,
        generation=1,
        outcome=outcome,
        findings=findings,
        analysed_at=datetime.now(UTC),
    )
    objects = encode(analysis, source)
    check(objects, source)
    (seg,) = [highdicom.seg.Segmentation.from_dataset(o.dataset) for o in objects if o.kind == "seg"]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["Lung", "Soft tissue", "Bone"]
    labels = seg.get_volume(combine_segments=True).array
    assert np.bincount(labels.ravel())[1:].tolist() == [8 * 24 * 24 - 5 * 12 * 10, 5 * 12 * 10 - 4, 4]


def test_the_entry_point_of_the_page_has_the_group_that_the_node_reads():
    *_, last = blocks("write-a-pipeline.md", "toml")
    (group,) = tomllib.loads(last)["project"]["entry-points"]
    assert group in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def test_the_changelog_has_an_unreleased_part_and_this_version_in_the_known_form():
    headings = re.findall(r"^## \[(.+?)\]", TEXT["CHANGELOG.md"], re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]
    assert set(re.findall(r"^### (.+)", TEXT["CHANGELOG.md"], re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Fixed",
        "Removed",
        "Security",
    }


def test_every_test_that_the_page_on_reliability_names_is_there():
    named = set(re.findall(r"\btest_\w+", TEXT["reliability.md"].replace("tests/system/test_chaos.py", "")))
    assert named <= {path.stem for path in (ROOT / "tests").glob("*/test_*.py")}
    assert len(named) > 10


def test_the_page_on_architecture_names_every_room_and_module():
    named = set(re.findall(r"^\| `([^`]+)` \|", TEXT["architecture.md"], re.MULTILINE))
    parts = {path.relative_to(ROOT) for package in ("node", "pipelines") for path in (ROOT / package).iterdir()}
    rooms = {f"{part}/" for part in parts if any((ROOT / part).glob("**/*.py"))}
    modules = {str(part) for part in parts if part.suffix == ".py" and part.name != "__init__.py"}
    assert rooms | modules <= named


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "development").glob("*.md")), ids=lambda page: page.name)
def test_files_that_a_page_for_maintainers_names_exist(page: Path):
    named = re.findall(r"`((?:node|pipelines|tests|docs)/[^`*<> ]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []
