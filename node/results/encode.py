"""One analysis in, its DICOM objects out."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from highdicom import VolumeGeometry
from highdicom.seg import Segmentation
from pydicom import Dataset

from node.config import DEFAULT_OBJECTS
from node.errors import EncodeError
from node.pipeline import Findings, Unsuitable
from node.results.analysis import ANALYSED, Analysis, EncodedObject, Kind, Source, outcome_of
from node.results.derived import encode_derived
from node.results.earlier import Earlier, keep_tracking, name_predecessor
from node.results.finding import Finding, place_findings
from node.results.headers import headers_for_highdicom
from node.results.identity import Identity, analysis_key, derive_uid, finish
from node.results.key_image import draw_key_image, encode_key_images, key_findings
from node.results.seg import encode_seg
from node.results.sr import encode_sr


def encode(
    analysis: Analysis, source: Source, kinds: Collection[str] = DEFAULT_OBJECTS, earlier: Earlier | None = None
) -> tuple[EncodedObject, ...]:
    """Make the objects of one analysis that are of ``kinds``, in the order in which they refer to one another.

    A pure function: the same analysis of the same images gives the same bytes. The SEG holds every mask that is not
    empty. A report is there for each outcome but *derived*. With ``earlier`` it takes the place of that result.

    Raises ``EncodeError`` when findings cannot become valid objects.
    """
    found = analysis.findings or Findings()
    if analysis.outcome in ANALYSED - {"partial"} and analysis.outcome != outcome_of(found):
        raise EncodeError(f"Analysis.outcome is {analysis.outcome!r}, which its findings contradict; use outcome_of()")
    key = analysis_key(analysis, source)
    identity = Identity.read(source)
    objects: list[EncodedObject] = []
    geometry = _geometry(source) if found.derived or found.all_segments else None
    if geometry is not None and "derived" in kinds:
        for place, series in enumerate(found.derived):
            objects += encode_derived(
                analysis, source, series, geometry=geometry, place=place, key=key, identity=identity
            )
    if analysis.outcome == "derived":
        return tuple(objects)
    findings = place_findings(found, source, geometry, key) if geometry is not None else ()
    if earlier is not None and earlier.seg is not None:
        findings = keep_tracking(findings, earlier.seg, source.datasets)
    headers = headers_for_highdicom(source, geometry)
    for kind, dataset in _objects(analysis, source, headers=headers, findings=findings, key=key, kinds=kinds):
        if earlier is not None and kind in earlier.reports:
            name_predecessor(dataset, earlier.reports[kind])
        data = finish(dataset, analysis, identity)
        objects.append(EncodedObject(data=data, kind=kind, description=str(dataset.SeriesDescription)))
    return tuple(objects)


def report_uids(analysis: Analysis, source: Source) -> frozenset[str]:
    """SOP Instance UIDs that the reports of this analysis have, or would have."""
    key = analysis_key(analysis, source)
    return frozenset(derive_uid(key, kind) for kind in ("sr", "sr alone"))


def _objects(
    analysis: Analysis,
    source: Source,
    *,
    headers: list[Dataset],
    findings: tuple[Finding, ...],
    key: str,
    kinds: Collection[str],
) -> Iterator[tuple[Kind, Dataset]]:
    """What shows and tells the findings, without identity."""
    seg = None
    if findings and "seg" in kinds:
        seg = encode_seg(analysis, source, headers, findings=findings, key=key)
        yield "seg", seg
    if "key images" in kinds:
        pictures = [(f, draw_key_image(analysis, source, f, findings)) for f in key_findings(findings)]
        for image in encode_key_images(analysis, source, pictures, key=key):
            yield "key images", image
    reports: dict[Kind, Segmentation | None] = {"sr": seg, "sr alone": None}
    for kind, referenced in reports.items():
        if kind in kinds:
            yield kind, encode_sr(analysis, source, headers, findings=findings, seg=referenced, key=key, kind=kind)


def _geometry(source: Source) -> VolumeGeometry:
    try:
        return source.geometry
    except Unsuitable as reason:
        raise EncodeError(
            f"series {source.series_instance_uid} has masks but no grid to put them on: {reason}"
        ) from None
