"""The link to the page of a study: in which objects it is, in which place, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from analyses import OUTCOMES, analysis, source_of, two_lesions
from dicom_files import ct_series
from job_node import JobNode, config_of
from pydicom import dcmread
from reportlab.graphics.barcode.qrencoder import QRCode, QRErrorCorrectLevel

from node.config import Language, Web, parse
from node.deidentify.calls import deidentify_file
from node.deidentify.profile_of_destination import Profile
from node.errors import ConfigError, GateError
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.results.key_image import COLUMN, EDGE
from node.results.rendering import BACKGROUND, FAINT
from node.results.study_link import link_strip, pdf_link
from node.studies.source import SourceSeries
from node.translation import in_language

SHOWING = {"key images", "pdf"}
KINDS = ["seg", "labelmap", "sr", "rtstruct", "presentation state", "key object selection", *SHOWING]


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return source_of(tmp_path, ct_series(5, 32))


def link_of(source: SourceSeries, base: str = "https://ainode.example.org") -> str:
    return Web(link_base=base).study_link(source.datasets[0].StudyInstanceUID)


def objects_of(source: SourceSeries, link: str, language: Language = "en") -> tuple[EncodedObject, ...]:
    objects = encode(analysis(two_lesions(source), link=link, languages=(language,)), source, KINDS)
    check(objects, source)
    return objects


def test_the_link_of_a_study_has_its_uid_and_nothing_that_ends_the_address():
    web = Web(link_base="https://ainode.example.org/")
    assert web.study_link("1.2.3") == "https://ainode.example.org/study/1.2.3"
    assert urlsplit(web.study_link('1.2"><b>/?#')).path == "/study/1.2%22%3E%3Cb%3E%2F%3F%23"
    assert Web().study_link("1.2.3") == ""


@pytest.mark.parametrize("base", ["https://a.example/b c", "https://käse.example", "https://a.example/" + "x" * 100])
def test_a_base_that_does_not_fit_a_link_in_a_picture_is_refused(base: str):
    with pytest.raises(ConfigError, match=r"web\.link_base"):
        parse(f'[web]\nlink_base = "{base}"\n')


def test_the_page_has_the_address_to_click_and_to_read_inside_its_margins(source: SourceSeries):
    link = link_of(source)
    for outcome in ({"findings": two_lesions(source)}, OUTCOMES["failed"]):
        (page,) = encode(analysis(**({"link": link} | outcome)), source, ["pdf"])  # type: ignore[arg-type]
        clicked = re.findall(rb"/URI \(([^)]*)\).*?/Rect \[ ([\d. ]+) \]", page.data, re.DOTALL)
        assert {address.decode() for address, _ in clicked} == {link}
        for _, place in clicked:
            left, bottom, right, top = map(float, place.split())
            assert 40 <= left < right <= 555
            assert 40 <= bottom < top <= 802
    for language, said in (
        ("en", "This study on the dashboard"),
        ("de", "Diese Studie im Dashboard"),
        ("zh", "本检查"),
    ):
        with in_language(language):  # type: ignore[arg-type]
            text = pdf_link(link, 8).getPlainText()
        assert text.startswith(said)
        assert text.endswith(link)


@pytest.mark.thorough
def test_a_key_image_has_the_link_below_its_text_and_nothing_else_is_moved(source: SourceSeries):
    link = link_of(source)
    pairs = zip(
        *([o.dataset for o in objects_of(source, at) if o.kind == "key images"] for at in ("", link)), strict=True
    )
    for without, with_link in pairs:
        before, after = without.pixel_array, with_link.pixel_array
        strip = np.asarray(link_strip(link, COLUMN))
        text_end = np.flatnonzero((before[:, EDGE:] != BACKGROUND).any(axis=(1, 2)))[-1] + 1
        assert len(after) - len(strip) >= text_end
        assert (after[:text_end] == before[:text_end])[:, EDGE:].all()
        assert (after[: len(before), :EDGE] == before[:, :EDGE]).all()
        assert (after[len(before) :, :EDGE] == BACKGROUND).all()
        assert (after[-len(strip) :, EDGE:] == strip).all()


def test_the_qr_code_is_that_of_the_address_with_a_border_that_readers_need(source: SourceSeries):
    link = link_of(source)
    strip = np.asarray(link_strip(link, COLUMN))
    code = QRCode(None, QRErrorCorrectLevel.M)
    code.addData(link)
    code.make()
    across = code.getModuleCount() + 8
    drawn = strip[10 : 10 + 3 * across : 3, 10 : 10 + 3 * across : 3]
    is_dark = np.pad([[code.isDark(row, column) for column in range(across - 8)] for row in range(across - 8)], 4)
    assert (drawn == np.where(is_dark[..., None], 0, FAINT)).all()
    text = strip[:, 10 + 3 * across :]
    assert (text[:, -2:] == BACKGROUND).all(), "no letter is cut off at the edge"
    assert (text[-2:] == BACKGROUND).all()


@pytest.mark.thorough
def test_a_caption_is_in_the_language_of_the_key_image_and_headers_stay_english(source: SourceSeries):
    pictures = {}
    for language in ("en", "de"):
        first = next(o.dataset for o in objects_of(source, link_of(source), language) if o.kind == "key images")
        assert first.ImageComments.startswith("Nodule 1.")
        with in_language(language):
            strip = np.asarray(link_strip(link_of(source), COLUMN))
        assert (first.pixel_array[-len(strip) :, EDGE:] == strip).all()
        pictures[language] = strip
    assert not np.array_equal(pictures["en"], pictures["de"])


@pytest.mark.thorough
def test_another_address_makes_other_instances_and_the_same_one_the_same_bytes(source: SourceSeries):
    links = ("", link_of(source), link_of(source, "https://other.example.org"))
    made = [objects_of(source, link) for link in links]
    assert [o.data for o in made[1]] == [o.data for o in objects_of(source, links[1])]
    uids = [{o.dataset.SOPInstanceUID for o in objects} for objects in made]
    assert len(set().union(*uids)) == sum(map(len, uids))


@pytest.mark.thorough
def test_no_object_but_page_and_key_image_has_the_link_and_both_are_withheld_where_identity_is_removed(
    source: SourceSeries, tmp_path: Path
):
    profile = Profile(key=b"k" * 32, destination="research", options=())
    for number, made in enumerate(objects_of(source, link_of(source))):
        path, out = tmp_path / f"{number}.dcm", tmp_path / "out"
        path.write_bytes(made.data)
        if made.kind in SHOWING:
            with pytest.raises(GateError, match="BurnedInAnnotation is YES"):
                deidentify_file(path, profile, out, is_result=True)
        else:
            assert b"ainode.example" not in made.data, made.kind
            deidentify_file(path, profile, out, is_result=True)
            assert b"ainode.example" not in out.read_bytes(), made.kind


@pytest.mark.thorough
def test_a_retry_after_the_address_was_changed_leaves_what_was_made_and_makes_other_instances(tmp_path: Path):
    made: list[dict[str, bytes]] = []
    job_id = ""
    for base in ("https://a.example", "https://a.example", "https://b.example"):
        node = JobNode(config_of(tmp_path).model_copy(update={"web": Web(link_base=base)}))
        infer, encode_stage, _ = node.stages()
        if not made:
            job_id = node.enqueue(destinations=("pictures",))
            done = infer.handler(job_id, "")
            infer.interrupt()
            assert done is not None
            with node.engine.begin() as connection:
                done.write(connection)
        encode_stage.handler(job_id, "")
        study = node.job(job_id).study_instance_uid
        files = (tmp_path / "results" / job_id).iterdir()
        made.append({dcmread(path).SOPInstanceUID: path.read_bytes() for path in files})
        assert any(f"/URI ({base}/study/{study})".encode() in data for data in made[-1].values())
        node.engine.dispose()
    assert made[0] == made[1]
    assert len(made[2]) == 2 * len(made[0])
    assert made[0].items() <= made[2].items()
