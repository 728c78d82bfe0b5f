"""One analysis in, its DICOM objects out."""

from __future__ import annotations

from highdicom import VolumeGeometry

from node.errors import EncodeError
from node.pipeline import Findings, Unsuitable
from node.results.analysis import Analysis, EncodedObject, Source
from node.results.derived import encode_derived
from node.results.finding import place_findings
from node.results.headers import headers_for_highdicom
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
    geometry = _geometry(source) if found.derived or found.all_segments else None
    if geometry is not None:
        for place, series in enumerate(found.derived):
            objects += encode_derived(
                analysis, source, series, geometry=geometry, place=place, key=key, identity=identity
            )
    if found.derived and not found.all_segments:
        return tuple(objects)
    findings = place_findings(found, geometry, key) if geometry is not None else ()
    if analysis.findings is not None and bool(findings or found.derived) != (analysis.outcome == "findings"):
        raise EncodeError(f"Analysis.outcome is {analysis.outcome!r}, which its findings contradict; use outcome_of()")
    headers = headers_for_highdicom(source, geometry)
    seg = encode_seg(analysis, source, headers, findings=findings, key=key) if findings else None
    sr = encode_sr(analysis, source, headers, findings=findings, seg=seg, key=key)
    if seg is not None:
        data = finish(seg, analysis, identity)
        objects.append(EncodedObject(data=data, kind="SEG", description=str(seg.SeriesDescription)))
    data = finish(sr, analysis, identity)
    objects.append(EncodedObject(data=data, kind="SR", description=str(sr.SeriesDescription)))
    return tuple(objects)


def _geometry(source: Source) -> VolumeGeometry:
    try:
        return source.geometry
    except Unsuitable as reason:
        raise EncodeError(
            f"series {source.series_instance_uid} has masks but no grid to put them on: {reason}"
        ) from None
