"""One analysis in, its DICOM objects out."""

from __future__ import annotations

from highdicom import VolumeGeometry
from highdicom.seg import Segmentation

from node.errors import EncodeError
from node.pipeline import Findings, Unsuitable
from node.results.analysis import Analysis, EncodedObject, Source
from node.results.derived import encode_derived
from node.results.finding import Finding, place_findings
from node.results.identity import Identity, analysis_key, finish
from node.results.seg import encode_seg
from node.results.sr import encode_sr


def encode(analysis: Analysis, source: Source) -> tuple[EncodedObject, ...]:
    """Make every object of one analysis: derived series, SEG, SR, in the order in which they refer to one another.

    A pure function: the same analysis of the same images gives the same bytes. The SEG holds every mask that is not
    empty. The SR is there for each outcome, only an analysis that does nothing but derive images goes without.

    Raises ``EncodeError`` when findings cannot become valid objects.
    """
    key = analysis_key(analysis, source)
    identity = Identity.read(source)
    found = analysis.findings or Findings()
    objects: list[EncodedObject] = []
    if found.derived:
        geometry = _geometry(source)
        for place, series in enumerate(found.derived):
            objects += encode_derived(
                analysis, source, series, geometry=geometry, place=place, key=key, identity=identity
            )
    findings: tuple[Finding, ...] = ()
    seg: Segmentation | None = None
    if found.all_segments:
        geometry = _geometry(source)
        findings = place_findings(found, geometry, key)
    something = bool(findings or found.derived)
    if analysis.findings is not None and something != (analysis.outcome == "findings"):
        raise EncodeError(f"Analysis.outcome is {analysis.outcome!r}, which its findings contradict; use outcome_of()")
    if findings:
        seg = encode_seg(analysis, source, geometry, findings, key)
        objects.append(
            EncodedObject(data=finish(seg, analysis, identity), kind="SEG", description=str(seg.SeriesDescription))
        )
    if found.all_segments or not found.derived:
        sr = encode_sr(analysis, source, findings, seg, key)
        objects.append(
            EncodedObject(data=finish(sr, analysis, identity), kind="SR", description=str(sr.SeriesDescription))
        )
    return tuple(objects)


def _geometry(source: Source) -> VolumeGeometry:
    try:
        return source.geometry
    except Unsuitable as reason:
        raise EncodeError(
            f"series {source.series_instance_uid} has masks but no grid to put them on: {reason}"
        ) from None
