"""Encode one analysis as DICOM objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, product
from typing import Literal

from highdicom import VolumeGeometry
from highdicom.seg import Segmentation
from PIL.Image import Image
from pydicom import Dataset

from node.config import DEFAULT_OBJECTS
from node.errors import EncodeError, NodeError
from node.outcome import ANALYSED, Outcome
from node.pipeline import Findings, Unsuitable
from node.results.analysis import OPTIONAL, Analysis, EncodedObject, Kind, Source, outcome_of
from node.results.derived import encode_derived
from node.results.finding import Finding, place_findings
from node.results.graphics import Graphic, graphics_of_findings, graphics_of_shapes
from node.results.headers import headers_for_highdicom, restore_references
from node.results.identity import Identity
from node.results.image_seg import encode_image_segs
from node.results.impression.sentences import impression_of
from node.results.key_image import COLUMN, Picture, draw_key_image, encode_key_images, key_findings
from node.results.parametric_map import encode_map
from node.results.part10 import finish
from node.results.picture import draw_picture, encode_pictures
from node.results.picture_text import caption_language
from node.results.placed_region import PlacedRegion, place_regions
from node.results.predecessor import Predecessor, keep_tracking, name_predecessor
from node.results.presentation import encode_key_objects, encode_presentation_states
from node.results.region_image import draw_region_images
from node.results.root_report import EncodedReference, describe_object
from node.results.rtstruct import encode_rtstruct
from node.results.seg import encode_seg
from node.results.sr import encode_sr, report_content
from node.results.uids import analysis_key
from node.translation import in_language

_REPORTS: dict[Kind, str] = {"sr": "seg", "sr on labelmap": "labelmap", "sr alone": ""}
"""Kinds of report, with the segmentation that each refers to."""
_DERIVED: tuple[Kind, ...] = ("derived", "derived j2k")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """The inputs that all objects of one analysis share."""

    analysis: Analysis
    source: Source
    geometry: VolumeGeometry | None
    """``None`` when nothing was found that needs a grid."""
    headers: list[Dataset]
    """Of the source, as highdicom takes them."""
    findings: tuple[Finding, ...]
    regions: tuple[PlacedRegion, ...]
    identity: Identity
    key: str
    """Of ``analysis_key``."""
    kinds: frozenset[str]
    """What is asked for."""
    profiles: tuple[frozenset[str], ...]
    """What each destination asks for; empty: one asks for it all."""


def encode(
    analysis: Analysis,
    source: Source,
    kinds: Collection[str] = DEFAULT_OBJECTS,
    predecessor: Predecessor | None = None,
    *,
    profiles: Iterable[Collection[str]] = (),
) -> tuple[EncodedObject, ...]:
    """Encode the objects of one analysis that are of ``kinds``; referenced objects come first.

    A pure function: the same analysis of the same images gives the same bytes. The SEG holds every mask that is not
    empty. A report is there for each outcome but *derived*; it names the other objects that go wherever it goes
    itself, as ``profiles``, the kinds that each destination gets, say. With ``predecessor`` it takes the place of that
    result; ``analysis`` is then as ``superseding`` makes it.

    Raises ``EncodeError`` when findings cannot become valid objects; it names the kinds that cannot be made.
    """
    results = analysis.findings or Findings()
    stated = analysis.outcome
    contradicted = stated != outcome_of(results) if stated in ANALYSED else analysis.positive
    if contradicted and stated != Outcome.PARTIAL:
        raise EncodeError(f"Analysis.outcome is '{stated}', which its findings contradict; use outcome_of()")
    key = analysis_key(analysis, source)
    identity = Identity.read(source)
    geometry = _geometry(source) if results.derived or results.all_segments or results.maps else None
    objects: list[EncodedObject] = []
    if geometry is not None:
        for (place, series), kind in product(enumerate(results.derived), _DERIVED):
            if kind in kinds:
                objects += encode_derived(
                    analysis, source, series, geometry=geometry, place=place, key=key, kind=kind, identity=identity
                )
    if analysis.outcome == Outcome.DERIVED:
        return tuple(objects)
    findings = place_findings(results, source, geometry, key) if geometry is not None else ()
    if findings and predecessor is not None and predecessor.seg is not None:
        findings = keep_tracking(findings, predecessor.seg, source.datasets)
    work = _Work(
        analysis=analysis,
        source=source,
        geometry=geometry,
        headers=headers_for_highdicom(source, geometry),
        findings=findings,
        regions=place_regions(results, source, key, after=len(findings)),
        identity=identity,
        key=key,
        kinds=frozenset(kinds),
        profiles=tuple(map(frozenset, profiles)),
    )
    for kind, dataset in _objects(work, [describe_object(encoded) for encoded in objects]):
        restore_references(dataset, source)
        if predecessor is not None and kind in predecessor.reports:
            name_predecessor(dataset, predecessor.reports[kind])
        data = finish(dataset, analysis, identity)
        objects.append(EncodedObject(data=data, kind=kind, description=str(dataset.SeriesDescription)))
    return tuple(objects)


def _objects(work: _Work, encoded: list[EncodedReference]) -> Iterator[EncodedReference]:
    """Everything on the findings, without identity; ``encoded``: what there is already. The reports name it all."""
    segmentations: dict[str, Segmentation] = {}
    for kind, dataset in chain(
        _image_segs(work), _segmentations(work), _structure_set(work), _shown(work), _maps(work)
    ):
        if isinstance(dataset, Segmentation) and kind in _REPORTS.values():
            segmentations[kind] = dataset
        yield kind, dataset
        encoded.append((kind, dataset))
    for kind, on in _REPORTS.items():
        if kind in work.kinds:
            others = [item for item in encoded if all(item[0] in p for p in work.profiles if kind in p)]
            report = encode_sr(
                work.analysis,
                work.source,
                work.headers,
                findings=work.findings,
                regions=work.regions,
                seg=segmentations.get(on),
                image_segs=[dataset for of, dataset in others if of == "image seg"],
                others=others,
                key=work.key,
                kind=kind,
            )
            yield kind, report


def _segmentations(work: _Work) -> Iterator[EncodedReference]:
    kinds: tuple[Literal["seg", "labelmap"], ...] = ("seg", "labelmap")
    for kind in kinds:
        if work.findings and kind in work.kinds:
            with _making(kind):
                seg = encode_seg(
                    work.analysis, work.source, work.headers, findings=work.findings, key=work.key, kind=kind
                )
            yield kind, seg


def _image_segs(work: _Work) -> Iterator[EncodedReference]:
    if "image seg" in work.kinds:
        with _making("image seg"):
            segs = list(encode_image_segs(work.analysis, work.source, work.headers, regions=work.regions, key=work.key))
        yield from (("image seg", seg) for seg in segs)


def _structure_set(work: _Work) -> Iterator[EncodedReference]:
    if work.findings and "rtstruct" in work.kinds:
        with _making("rtstruct"):
            contours = encode_rtstruct(work.analysis, work.source, work.headers, findings=work.findings, key=work.key)
        yield "rtstruct", contours


def _shown(work: _Work) -> Iterator[EncodedReference]:
    """Pictures and marks of the key findings."""
    analysis, source, headers, key, kinds = work.analysis, work.source, work.headers, work.key, work.kinds
    shown = key_findings(work.findings)
    with in_language(caption_language(analysis.languages)):
        shapes = graphics_of_shapes(work.regions, analysis.findings or Findings(), source, key)
        graphics = [*graphics_of_findings(shown), *shapes]
        pictures = _pictures(work, shown, shapes)
        link = _link(work)
    if "key images" in kinds:
        with _making("key images"):
            images = list(encode_key_images(analysis, source, pictures, key=key, link=link))
            own = (analysis.findings or Findings()).pictures
            with in_language(caption_language(analysis.languages)):
                drawn = [(picture, draw_picture(analysis, picture)) for picture in own]
            images += encode_pictures(analysis, source, headers, drawn, key=key, after=len(images))
        yield from (("key images", image) for image in images)
    if "pdf" in kinds:
        from node.results.pdf import encode_pdf  # 0.15 s that no other kind needs

        with _making("pdf"):
            page = encode_pdf(
                analysis,
                source,
                work.identity,
                findings=[*work.findings, *work.regions],
                impressions=_impressions(work),
                pictures=pictures,
                key=key,
            )
        yield "pdf", page
    if graphics and "presentation state" in kinds:
        with _making("presentation state"):
            states = list(encode_presentation_states(analysis, source, headers, graphics=graphics, key=key))
        yield from (("presentation state", state) for state in states)
    if graphics and "key object selection" in kinds:
        with _making("key object selection"):
            selection = encode_key_objects(analysis, source, headers, graphics=graphics, key=key)
        yield "key object selection", selection


def _pictures(work: _Work, shown: Sequence[Finding], shapes: Sequence[Graphic]) -> list[Picture]:
    """Key images, with captions in the language that is spoken, where something that is asked for has them."""
    pictures: list[Picture] = []
    if not work.kinds.isdisjoint(("key images", "pdf")):
        with _making("key images", "pdf"):
            for finding in shown:
                drawing = draw_key_image(work.analysis, work.source, finding, work.findings)
                place, name = finding.section.slice_index, str(finding.number)
                pictures.append(Picture(place=place, name=name, label=finding.label, drawing=drawing))
            pictures += draw_region_images(work.analysis, work.source, shapes)
    return pictures


def _link(work: _Work) -> Image | None:
    """The link to the page of the study, as key images show it; in the language that is spoken."""
    if not work.analysis.link or "key images" not in work.kinds:
        return None
    from node.results.study_link import link_strip

    with _making("key images"):
        return link_strip(work.analysis.link, COLUMN)


def _impressions(work: _Work) -> list[str]:
    """The impression of the report in each language."""
    report = report_content(
        work.analysis,
        work.source,
        work.headers,
        findings=work.findings,
        regions=work.regions,
        seg=None,
        key=work.key,
    )
    return [impression_of(report[0], language) for language in work.analysis.languages]


def _maps(work: _Work) -> Iterator[EncodedReference]:
    findings = work.analysis.findings or Findings()
    if work.geometry is None or "parametric map" not in work.kinds:
        return
    for place, entry in enumerate(findings.maps):
        with _making("parametric map"):
            encoded = encode_map(
                work.analysis, work.source, work.headers, of=entry, geometry=work.geometry, place=place, key=work.key
            )
        if encoded is not None:
            yield "parametric map", encoded


@contextmanager
def _making(*kinds: Kind) -> Iterator[None]:
    """Turn errors of libraries about values in these objects into an ``EncodeError`` that names their kinds.

    A fault of our own in an object that a result can do without costs that object only: the ``EncodeError`` has it as
    its cause. In any other object it stays what it is.
    """
    try:
        yield
    except EncodeError as error:
        raise EncodeError(str(error), kinds) from error
    except NodeError:
        raise
    except ValueError as error:
        raise EncodeError(f"ValueError: {error}", kinds) from error
    except Exception as error:
        if not OPTIONAL.issuperset(kinds):
            raise
        raise EncodeError("internal error", kinds) from error


def _geometry(source: Source) -> VolumeGeometry:
    try:
        return source.geometry
    except Unsuitable as reason:
        raise EncodeError(
            f"series {source.series_instance_uid} has masks but no grid to put them on: {reason}"
        ) from None
