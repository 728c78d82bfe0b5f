"""Characteristics of series: what rules can ask for besides DICOM attributes, and the values of each.

``node.studies.characteristics`` finds them in the headers of a series, ``node.studies.body_region`` one in its pixels;
docs/rules.md describes them.
"""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "unknown"
"""Value of a characteristic that the images do not show; the only one besides those listed."""

BODY_REGION = "body_region"
"""The one that is found in pixels, and only where a rule asks for it."""

CHARACTERISTICS: Mapping[str, tuple[str, ...]] = {
    "plane": ("axial", "coronal", "sagittal", "oblique", "mixed"),
    "slice_spacing_mm": (),
    "coverage_mm": (),
    "image_kind": (
        "original", "derived", "reformatted", "MIP", "MinIP", "rendering", "map", "phase", "localizer", "capture",
    ),
    "sequence_type": ("T1", "T2", "T2_STAR", "PD", "FLAIR", "STIR", "DWI", "ADC", "SWI", "TOF"),
    "b_values": (),
    "contrast_agent": ("given", "not given"),
    "contrast_phase": ("native", "arterial", "portal venous", "venous", "delayed"),
    "kernel": ("smooth", "sharp"),
    BODY_REGION: ("head", "neck", "chest", "abdomen", "pelvis"),
}  # fmt: skip
"""Values by name; empty: a number, or several."""
