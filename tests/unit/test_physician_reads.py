"""What a physician reads in any object of a result: the notice, the pipeline's title, never a word of Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from analyses import ALGORITHM, analysis, source_of
from every_object import EVERY, PROFILES, SYNTHETIC, every_object, everything, notes
from pdf_pages import page
from pydicom import Dataset, dcmread

from node import errors
from node.config import Config
from node.errors import NodeError, not_analysed
from node.pipeline import Findings, codes
from node.reasons import failed, reason_text
from node.results.encode import encode
from node.results.gate.check import check
from node.wording import NOTICE

PYTHON = re.compile(r"Error\b|Exception|Traceback|NoneType|object has no|0x[0-9a-f]{6}|line \d+|<class")


def texts(dataset: Dataset) -> Iterator[str]:
    """Every value that is text, at any depth; of a PDF its page."""
    for element in dataset.iterall():
        if element.VR in ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS"):
            yield str(element.value)
    if "EncapsulatedDocument" in dataset:
        yield page(dataset)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["axial", "enhanced-mr"])
def test_every_kind_of_object_says_that_it_is_for_research(tmp_path: Path, name: str):
    source = source_of(tmp_path, SYNTHETIC[name]())
    seen: set[str] = set()
    written: list[Path] = []
    for outcome, objects in every_object(source):
        for made in objects:
            said = list(texts(made.dataset))
            assert any(NOTICE in text for text in said), (outcome, made.kind)
            if made.kind == "pdf":
                assert NOTICE in page(made.dataset), outcome
            seen.add(made.kind)
            written.append(tmp_path / f"{len(written)}.dcm")
            written[-1].write_bytes(made.data)
    assert seen >= set(EVERY)
    rejections = notes(written)
    assert rejections
    for _, note in rejections:
        assert any(NOTICE in text for text in texts(dcmread(BytesIO(note.data))))


def test_the_notice_is_written_in_one_place():
    written = [
        path.name
        for folder in ("node", "pipelines")
        for path in (Path(__file__).parents[2] / folder).rglob("*.py")
        if re.search("not for diagnosis", path.read_text(), re.IGNORECASE)
    ]
    assert written == ["wording.py"]


@pytest.mark.thorough
def test_the_pipeline_tumor_reads_flair_abnormality_everywhere(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["mr"]())
    title = Config.model_validate({"pipelines": {"tumor": {}}}).title("tumor")
    assert title == "FLAIR abnormality"
    findings = everything(source)
    runs = [
        analysis(findings, pipeline="tumor", title=title),
        analysis(outcome="failed", reason="r", pipeline="tumor", title=title),
    ]
    for run in runs:
        objects = encode(run, source, EVERY, profiles=PROFILES)
        check(objects, source)
        for made in objects:
            said = " ".join(texts(made.dataset))
            assert "tumor" not in said.lower(), made.kind
        assert any(title in made.description for made in objects)


@pytest.mark.parametrize(
    ("table", "title"),
    [
        ({"brain": {"factory": "pipelines.tumor:create"}}, "FLAIR abnormality"),
        ({"brain": {"factory": "pipelines.tumor:create", "title": "White matter"}}, "White matter"),
        ({"brain": {"factory": "other:create"}}, "brain"),
        ({}, "brain"),
    ],
)
def test_a_title_is_that_of_the_site_else_of_the_pipeline_else_its_name(table: dict[str, object], title: str):
    assert Config.model_validate({"pipelines": table}).title("brain") == title


def all_errors() -> list[type[NodeError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NodeError)]


@pytest.mark.parametrize("kind", [*all_errors(), TypeError, MemoryError, None])
def test_a_failure_is_told_by_its_class_alone(tmp_path: Path, kind: type[BaseException] | None):
    message = "'NoneType' object has no attribute 'Rows' in /var/lib/x.py"
    sentence = reason_text(failed(kind(message) if kind else None, "0195-job"))
    assert sentence.startswith("NOT ANALYSED: ")
    assert "0195-job" in sentence, "who runs the node finds the message in the log"
    assert message not in sentence
    report = analysis(outcome="failed", reason=sentence)
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    for made in encode(report, source, ["sr", "pdf"]):
        said = " ".join(" ".join(texts(made.dataset)).split())
        assert "NOT ANALYSED: " in said
        assert not PYTHON.search(said), PYTHON.search(said)


def test_an_image_that_cannot_be_read_is_told_so():
    assert not_analysed(errors.InputError.code, "7").startswith("NOT ANALYSED: one image cannot be read.")


SCOPE = "Finds nodules of 6 to 35 mm; larger masses are often missed."


@pytest.mark.parametrize("some", [True, False])
def test_what_is_found_and_missed_is_said_and_right_beside_no_findings(tmp_path: Path, *, some: bool):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    findings = everything(source) if some else Findings(looked_for=(codes.SCT.Nodule,))
    algorithm = replace(ALGORITHM, scope=SCOPE)
    for made in encode(analysis(findings, algorithm=algorithm), source, ["sr", "pdf"]):
        if made.kind == "pdf":
            said = " ".join(page(made.dataset).split())
            assert SCOPE in said
            assert (f"Outcome: no findings. {SCOPE}" in said) == (not some)
        else:
            said_in_order = list(texts(made.dataset))
            assert (SCOPE in said_in_order) == some
            assert (f"Outcome: no findings. {SCOPE}" in said_in_order) == (not some)


def test_a_failure_promises_no_scope(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    failed = analysis(outcome="failed", reason="NOT ANALYSED: x.", algorithm=replace(ALGORITHM, scope=SCOPE))
    for made in encode(failed, source, ["sr", "pdf"]):
        assert SCOPE not in " ".join(" ".join(texts(made.dataset)).split())


def test_fixed_sentences_of_a_page_are_in_the_language_of_its_destination(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    findings = Findings(looked_for=(codes.SCT.Nodule,))

    def said(*languages: str) -> tuple[Dataset, str]:
        (made,) = encode(analysis(findings, languages=languages), source, ["pdf"])
        return made.dataset, " ".join(page(made.dataset).split())

    header, german = said("de")
    assert NOTICE in " ".join(texts(header)), "what others filter by stays English"
    for sentence in (
        "Nur für Forschungszwecke. Nicht zur Diagnose.",
        "Ergebnis: keine Befunde.",
        "Gesucht: Rundherd; im analysierten Teil nichts davon gefunden.",
        "Ohne ärztliche Prüfung berechnet.",
    ):
        assert sentence in german
    if Path("/usr/share/poppler/cMap").is_dir():  # Debian package poppler-data, by which pdftotext reads Chinese
        assert "结果：无发现。" in said("zh")[1]
    assert "Outcome: no findings." in said("de", "zh")[1], "destinations that read different languages"
    assert "Outcome: no findings." in said("fr")[1], "an impression only"
