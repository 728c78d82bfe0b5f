"""Reports in the language of their destination: every fixed text, from the process of a pipeline to the page."""

from __future__ import annotations

import copy
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import catalogs
import pytest
from analyses import ALGORITHM, analysis, source_of
from every_object import SYNTHETIC, everything
from pdf_pages import page
from PIL import Image, ImageDraw

from node.config import Language
from node.config.pipelines import PipelineTable
from node.inference.findings_document import read_algorithm, read_findings, write_algorithm, write_findings
from node.inference.infer_stage import _reason
from node.inference.task import Reply
from node.outcome import Outcome
from node.pipeline import Findings, Sentence, codes, joined, sentence
from node.reasons import reason_text
from node.results import pdf, picture_text
from node.results.encode import encode
from node.results.rendering import INK, draw_lines
from node.results.terms import evaluation_lines, in_text, label_in_words, place_in_words, term, title_in_words
from node.translation import InterfaceLanguage, in_language
from node.wording import in_words, together
from pipelines.brain.anatomy import STRUCTURES
from pipelines.brain.pipeline import ASYMMETRY
from pipelines.nodule import appearance
from pipelines.tumor.pipeline import ABNORMALITY, MAP, POSITION, REMARKS, _position

CUT_OFF = sentence("The lungs are cut off at the lower end: the lowest image still shows {area} cm2.", area="42.5")
THICK = sentence("Slices lie {step} mm apart: small nodules may not be visible to it.", step="3.5")
SAME = {
    *("name", "nodule", "detector", "sd", "hu", "mm", "ml", "cm2", "ainode", "sha", "organ", "test", "series"),
    *("patient", "ct", "flair", "id", "accession", "in", "was", "ai"),
}
"""Words of the page that are the same in German: names, units, values of the header."""
STATED = (
    *(appearance.TEXTURE, appearance.SOLID, appearance.PART_SOLID, appearance.NON_SOLID, appearance.POSITION),
    *(appearance.MALIGNANCY, *appearance.SCORES, *appearance.THIRDS, ABNORMALITY, POSITION, ASYMMETRY),
    *(_position(third, midline=near) for third in ("anterior", "middle", "posterior") for near in (True, False)),
    *(structure.code for structure in STRUCTURES),
)
"""Codes that the built-in pipelines state."""
FOREIGN = {"upper", "lobe", "of", "lung", "good", "image", "quality"}
"""Codes of a third-party pipeline."""


def words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z]{2,20}\d?", text) if set(word) != {"a", "b"}}


def test_no_word_of_an_english_page_is_on_a_german_or_chinese_one(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    findings = replace(everything(source), remarks=(*REMARKS, THICK), cut_off=CUT_OFF)
    scope = sentence("Trained on low-grade glioma only.")
    of = {"outcome": "partial", "reason": CUT_OFF, "algorithm": replace(ALGORITHM, scope=scope), "caveat": THICK}
    pages = {}
    languages: tuple[Language, ...] = ("en", "de", "zh")
    for language in languages:
        (made,) = encode(analysis(findings, languages=(language,), **of), source, ["pdf"])
        pages[language] = page(made.dataset)
    assert "Long axis" in pages["en"]
    assert "42,5 cm2" in pages["de"], "the decimal symbol"
    for language in ("de", "zh"):
        shown = " ".join(pages[language].split()).replace(pdf._LETTERS, "")  # in Chinese said in English as well
        assert words(pages["en"]) & words(shown) - SAME - FOREIGN == set(), language


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_every_title_and_term_of_the_built_in_pipelines_is_translated(language: InterfaceLanguage):
    titles = [PipelineTable().title_of(name) for name in ("nodule", "tumor", "denoise", "brain")]
    with in_language(language):
        assert [title for title in titles if title_in_words(title) == title] == []
        english = {text for text in (MAP, *(code.meaning for code in STATED)) if term(text) == text}
    assert english == ({"Amygdala", "Thalamus", "Putamen"} if language == "de" else set())


def test_a_page_in_letters_of_the_viewer_says_so_in_embedded_ones_as_well(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    for language, times in (("zh", 1), ("de", 0)):
        (made,) = encode(analysis(everything(source), languages=(language,)), source, ["pdf"])
        shown = " ".join(page(made.dataset).split())
        assert shown.count("East Asian letters are those of the viewer") == times


def test_a_title_that_a_site_chose_stays_as_it_is():
    with in_language("de"):
        assert title_in_words("Studies") == "Studies", "a word that the dashboard translates"
        assert title_in_words("FLAIR abnormality") == "FLAIR-Signalveränderung"
    assert title_in_words("nodule") == "nodule"


def test_the_name_of_a_finding_is_not_broken_within_a_word(tmp_path: Path):
    source = source_of(tmp_path, SYNTHETIC["axial"]())
    findings = everything(source)
    lesion = replace(findings.lesions[0], finding=ABNORMALITY)
    lesion = replace(lesion, segment=replace(lesion.segment, label="FLAIR abnormality 10"))
    of = analysis(replace(findings, lesions=(lesion,)), languages=("de",), title="FLAIR abnormality")
    (made,) = encode(of, source, ["pdf"])
    text = page(made.dataset)
    assert "KI-Bericht: FLAIR-Signalveränderung" in text
    assert "FLAIR-Signalveränderung 10" in text


def test_chinese_has_its_own_punctuation_and_no_space_before_a_word_or_a_per_cent_sign():
    with in_language("zh"):
        assert evaluation_lines({appearance.TEXTURE: appearance.SOLID}) == ("质地：实性肺结节",)  # noqa: RUF001
        assert in_words("可信度", 99.7, "%") == "可信度大于 99%"
        assert in_words("变化", -5.0, "%") == "变化 -5%"
        assert in_words("长径", 7.0, "mm") == "长径 7 mm"
        assert in_words("倍增时间", 180.0, "d") == "倍增时间 180 天"


def test_a_side_is_written_before_or_after_the_place_as_the_language_does():
    with in_language("de"):
        assert place_in_words(codes.SCT.Brain, codes.SCT.Left) == "Gehirn links"
    with in_language("zh"):
        assert place_in_words(codes.SCT.Brain, codes.SCT.Left) == "左侧脑"
        assert place_in_words(None, codes.SCT.Left) == "左侧"
        assert place_in_words(codes.SCT.Brain, None) == "脑"


def test_punctuation_of_chinese_captions_stays_wide(monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _self, _at, text, **_of: drawn.append(text))
    draw_lines(Image.new("RGB", (9, 9)), (0, 0), [("质地：实性，494 mm³", INK)], 15)  # noqa: RUF001
    assert drawn == ["质地：实性，494 mm3"]  # noqa: RUF001


def test_captions_are_in_the_language_of_the_destination_where_a_typeface_has_its_letters(monkeypatch, tmp_path: Path):
    assert picture_text.caption_language(("de",)) == "de"
    assert picture_text.caption_language(("de", "zh")) == "en"
    with in_language("de"):
        assert picture_text.caption("Läsion: 3 mm\n結節") == "Läsion: 3 mm "
        assert picture_text.typeface(15).getname()[0] == "DejaVu Sans"
    picture_text._file_of.cache_clear()
    monkeypatch.setattr(picture_text, "_FOLDER", tmp_path)
    assert picture_text.caption_language(("zh",)) == "en", "no typeface is installed"
    picture_text._file_of.cache_clear()


@pytest.mark.parametrize("folder", ["pipelines", "node/studies", "node/results"])
def test_no_reason_of_the_node_and_its_pipelines_is_english_alone(folder: str):
    plain = re.compile(r"Unsuitable\(\s*f?\"|remarks=\(f?\"|remarks\.append\(f?\"|(?:scope|partial|cut_off)=f?\"[A-Z]")
    for path in (catalogs.ROOT / folder).rglob("*.py"):
        assert not plain.search(path.read_text(encoding="utf-8")), path


def test_a_sentence_is_english_and_shows_itself_in_the_language_that_is_spoken():
    for text in (THICK, pickle.loads(pickle.dumps(THICK)), copy.deepcopy(THICK)):  # noqa: S301 - our own
        assert text == "Slices lie 3.5 mm apart: small nodules may not be visible to it."
        with in_language("de"):
            assert f"{text}".startswith("Die Schichten liegen 3,5 mm auseinander")
            assert text.startswith("Slices"), "what methods of str return is English"
    with in_language("zh"):
        assert f"{together(THICK, CUT_OFF)}" == f"{THICK}"[:-1] + "；" + f"{CUT_OFF}"  # noqa: RUF001
        assert f"{joined([THICK, 'x'], ', ')}" == f"{THICK}，x"  # noqa: RUF001


def test_sentences_of_a_pipeline_keep_their_translations_on_the_way_to_the_report():
    findings = Findings(looked_for=(codes.SCT.Nodule,), remarks=(THICK, "of a third party"), cut_off=CUT_OFF)
    document = json.loads(json.dumps(write_findings(findings, {})))
    read = read_findings(document, {})
    algorithm = read_algorithm(json.loads(json.dumps(write_algorithm(replace(ALGORITHM, scope=THICK)))))
    assert (read.remarks, read.cut_off) == (findings.remarks, CUT_OFF)
    with in_language("de"):
        shown = [f"{text}" for text in (read.remarks[0], read.cut_off, algorithm.scope)]
    assert [text.split()[0] for text in shown] == ["Die", "Die", "Die"]
    assert read.remarks[1] == "of a third party"


def test_the_reason_of_a_pipeline_is_shown_in_the_language_of_who_reads_it():
    hostile = Sentence("not \x1bthis", {"de": "nicht \x1bdies" + "x" * 9999, "tlh": "Qapla"})
    reply = Reply.from_bytes(Reply(outcome=Outcome.NOT_APPLICABLE, reason=hostile).to_bytes())
    assert reply.reason == "not \\x1bthis"
    assert reply.reason.translations.keys() == {"de"}
    assert "\x1b" not in reply.reason.translations["de"]
    stated = _reason(Reply.from_bytes(Reply(outcome=Outcome.NOT_APPLICABLE, reason=CUT_OFF).to_bytes()))
    assert reason_text(json.loads(json.dumps(stated))) == CUT_OFF
    with in_language("de"):
        assert reason_text(stated).startswith("Die Lungen sind unten abgeschnitten")


def test_names_sides_and_numbers_read_as_the_language_writes_them():
    with in_language("de"):
        assert label_in_words("Nodule 2", "Nodule") == "Rundherd 2"
        assert label_in_words("Left hippocampus", "Hippocampus", codes.SCT.Left) == "Hippokampus links"
        assert label_in_words("Ventricles", "Brain ventricle") == "Hirnventrikel"
        assert label_in_words("Finding of a third party", "Nodule") == "Finding of a third party"
        assert in_text(codes.SCT.Nodule, codes.SCT.Lung, codes.SCT.Left) == "Rundherd, linke Lunge"
        assert in_words("Volumen", 1234.5, "mm3") == "Volumen 1,2 ml"
        assert in_words("Volumen", 0.01, "ml") == "Volumen unter 0,1 ml"
    assert label_in_words("Nodule 2", "Nodule") == "Nodule 2"
    assert in_text(codes.SCT.Nodule, codes.SCT.Lung, codes.SCT.Left) == "Nodule, left lung"
    assert in_words("Doubling", 1.0, "d") == "Doubling 1 day"
