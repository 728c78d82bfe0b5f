"""The report on one page: Encapsulated PDF (PS3.3 A.45.1) with identity, outcome, table and pictures.

A page that is printed loses its header, so it names the patient. Text is text: it can be searched and copied.
Where letters are missing the page says so. Headings and fixed sentences are in the language of the destinations of the
job, when they have one and the same and ``node.translation`` has it, and otherwise in English.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

from highdicom.sr import CodedConcept
from PIL import Image
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Flowable, Spacer, Table
from reportlab.platypus import Image as Drawing
from reportlab.platypus.flowables import KeepInFrame

from node import __version__
from node.results import fonts as typeface
from node.results.analysis import Analysis, Source
from node.results.finding import Finding
from node.results.headers import by_instance, reference
from node.results.identity import Identity, noted
from node.results.key_image import Picture
from node.results.naming import series_description, series_number
from node.results.pdf_file import pdf_file, pdf_text
from node.results.picture_text import page_language
from node.results.placed_region import PlacedRegion
from node.results.report_text import (
    headline_of,
    measured_lines,
    remarks_of,
    scope_of,
    supersession_of,
)
from node.results.similar_text import similar_lines
from node.results.study_link import pdf_link
from node.results.terms import evaluation_lines, title_in_words
from node.results.uids import derive_uid
from node.translation import current_language, gettext, in_language, marked
from node.wording import NOTICE, person

ROWS = 12
"""Findings in the table."""
PICTURES = 4
"""Key images on the page."""
_MARGIN = 40.0
_NOT_SHOWN = marked("in letters this page cannot show")
_LETTERS = marked(
    "A question mark may stand for a letter that this page cannot show; East Asian letters are those of the viewer: "
    "where it has none, a name in them looks empty."
)
_REVIEW = marked("Computed without human review. It replaces neither the images nor their reading by a physician.")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)")
_IDENTITY = (
    (marked("Patient"), "PatientName"),
    (marked("Patient ID"), "PatientID"),
    (marked("Born"), "PatientBirthDate"),
    (marked("Sex"), "PatientSex"),
    (marked("Accession"), "AccessionNumber"),
    (marked("Study date"), "StudyDate"),
    (marked("Study"), "StudyDescription"),
    (marked("Series"), "SeriesDescription"),
)


def encode_pdf(
    analysis: Analysis,
    source: Source,
    identity: Identity,
    *,
    findings: Sequence[Finding | PlacedRegion],
    impressions: Sequence[str],
    pictures: Sequence[Picture],
    key: str,
) -> Dataset:
    """Build the object around ``draw_page``; identity and times are stamped on later."""
    with in_language(page_language(analysis.languages)):
        document = draw_page(
            analysis,
            source,
            identity.local(analysis.analysed_at),
            findings=findings,
            impressions=impressions,
            pictures=[p.drawing for p in pictures],
        )
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = derive_uid(key, "pdf")
    dataset.Modality = "DOC"
    dataset.SeriesInstanceUID = derive_uid(key, "pdf", "series")
    dataset.SeriesNumber = series_number(analysis, source, 91)
    dataset.SeriesDescription = series_description(analysis, source, "PDF")
    dataset.ConversionType = "WSD"
    dataset.InstanceNumber = 1
    dataset.AcquisitionDateTime = None
    dataset.BurnedInAnnotation = "YES"
    shown = [source.datasets[picture.place] for picture in pictures] or list(source.datasets)
    dataset.SourceInstanceSequence = [_reference(*reference(image)) for image in by_instance(shown).values()]
    title = ". ".join(filter(None, (series_description(analysis, source, "report"), supersession_of(analysis))))
    dataset.DocumentTitle = noted(title.removesuffix("."), 1024)
    dataset.ConceptNameCodeSequence = [CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    dataset.EncapsulatedDocumentLength = len(document)
    return dataset


def _reference(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def draw_page(
    analysis: Analysis,
    source: Source,
    at: datetime,
    *,
    findings: Sequence[Finding | PlacedRegion],
    impressions: Sequence[str],
    pictures: Sequence[Image.Image],
) -> bytes:
    """The page as a PDF file, in the language that is spoken here; the same arguments give the same bytes.

    ``at``: local time of the analysis.
    """
    typeface.register()
    rl_config.useA85 = 0  # pictures as they are: written as text they take a fifth more, and most of the time
    algorithm = analysis.algorithm
    identity = {gettext(title): _stated(source.datasets[0], keyword) for title, keyword in _IDENTITY}
    notice, title = gettext(NOTICE), gettext("AI report: {title}", title=title_in_words(analysis.title))
    texts = (
        notice,
        *identity.values(),
        *impressions,
        *remarks_of(analysis),
        *(finding.label_in_words for finding in findings),
    )
    story: list[Flowable] = [
        pdf_text(title, 15),
        pdf_text(notice, 10, colors.HexColor("#b04000")),
        *([pdf_text(supersession_of(analysis), 10)] if supersession_of(analysis) else []),
        Spacer(0, 6),
        _identity(identity),
        Spacer(0, 8),
        pdf_text(headline_of(analysis), 12),
        *([pdf_text(scope_of(analysis), 9)] if scope_of(analysis) else []),
        *(pdf_text(line, 10) for impression in impressions for line in impression.splitlines()[:ROWS]),
        Spacer(0, 4),
    ]
    if findings:
        story += [_findings(findings), Spacer(0, 6)]
    judged = analysis.findings.evaluations if analysis.findings else {}
    if analysis.similar is not None:
        story += [pdf_text(line, 8) for line in similar_lines(analysis.similar, current_language())]
    story += [pdf_text(line, 9) for line in measured_lines(analysis.findings)]
    story += [pdf_text(line, 9) for line in evaluation_lines(judged)]
    story += [pdf_text(remark, 9) for remark in remarks_of(analysis)]
    if pictures:
        story += [Spacer(0, 6), _pictures(pictures[:PICTURES]), Spacer(0, 6)]
    digest = gettext(", weights SHA-256 {digest}", digest=algorithm.weights_sha256) if algorithm.weights_sha256 else ""
    made_with = f"{algorithm.name} {algorithm.version}".strip() + digest
    of = {"images": len(source.datasets), "series": source.series_instance_uid}
    story += [
        *([pdf_link(analysis.link, 8), Spacer(0, 4)] if analysis.link else []),
        pdf_text(gettext("Made by {made_with}, {node}, {at}.", **_origin(made_with, at)), 7),
        pdf_text(gettext("From {images} images of series {series}.", **of), 7),
        *([] if all(map(typeface.embeds, texts)) else [pdf_text(text, 7) for text in _letters()]),
        pdf_text(gettext(_REVIEW), 7),
    ]
    width, height = A4[0] - 2 * _MARGIN - 12, A4[1] - 2 * _MARGIN - 12
    page = KeepInFrame(width, height, story, mode="shrink")
    return pdf_file([page], title=title, margin=_MARGIN)


def _letters() -> tuple[str, ...]:
    """Return what letters this page lacks; in English as well where the sentence itself is in such letters."""
    text = gettext(_LETTERS)
    return (text,) if typeface.embeds(text) else (text, _LETTERS)


def _origin(made_with: str, at: datetime) -> dict[str, str]:
    return {"made_with": made_with, "node": f"ainode {__version__}", "at": f"{at:%Y-%m-%d %H:%M}"}


def _identity(stated: Mapping[str, str]) -> Table:
    cells = [[pdf_text(title, 8, colors.grey), pdf_text(value or "-", 9)] for title, value in stated.items()]
    half = (len(cells) + 1) // 2
    table = Table(
        [left + right for left, right in zip(cells[:half], cells[half:], strict=True)],
        colWidths=[72, 178, 72, 183],
        style=[("BOX", (0, 0), (-1, -1), 0.5, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP"), *_TIGHT],
    )
    table.hAlign = "LEFT"
    return table


def _stated(header: Dataset, keyword: str) -> str:
    """Return a value of the header only if it fits completely: a truncated name may be another person's.

    Of a name every component group (PS3.5 6.2.1) that can be shown; of a date (PS3.5 6.2, DA) the parts apart.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a character set that is not what it says: shown as well as can be
        value = header.get(keyword)
        groups = person(str(value or "")) if keyword == "PatientName" else (str(value or ""),)
    if keyword.endswith("Date"):
        groups = (_DATE.sub(r"\1-\2-\3", groups[0]),)
    written = [text for group in groups if (text := typeface.composed(group).strip())]
    return "  ".join(text for text in written if typeface.can_show(text)) or (gettext(_NOT_SHOWN) if written else "")


def _findings(findings: Sequence[Finding | PlacedRegion]) -> Table:
    titles = gettext("Finding"), gettext("What and where"), gettext("Measurements")
    rows = [["", *(pdf_text(title, 8, colors.grey) for title in titles)]]
    lines = [("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    for finding in findings[:ROWS]:
        cells = (
            finding.label_in_words,
            gettext("; ").join(filter(None, (*finding.described(), f"{finding.image}"))),
            gettext("; ").join(finding.measured()),
        )
        lines.append(("BACKGROUND", (0, len(rows)), (0, len(rows)), colors.Color(*(v / 255 for v in finding.colour))))
        rows.append(["", *(pdf_text(text, 8) for text in cells)])
    if len(findings) > ROWS:
        rows.append(["", pdf_text(gettext("and {number} more", number=len(findings) - ROWS), 8), "", ""])
    longest = max(stringWidth(finding.label_in_words, typeface.FACE, 8) for finding in findings[:ROWS])
    names = min(max(longest + 14, 84.0), 130.0)
    table = Table(rows, colWidths=[6, names, 232 - names / 2, 267 - names / 2], style=[*lines, *_TIGHT])
    table.hAlign = "LEFT"
    return table


_TIGHT: list[Any] = [("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 2)]


def _pictures(pictures: Sequence[Image.Image]) -> Table:
    cells = []
    for picture in pictures:
        file = BytesIO()
        picture.save(file, "JPEG", quality=90)
        width = 240.0 if len(pictures) > 1 else 400.0
        cells.append(Drawing(file, width=width, height=width * picture.height / picture.width))
    table = Table([cells[i : i + 2] for i in range(0, len(cells), 2)], style=_TIGHT)
    table.hAlign = "LEFT"
    return table
