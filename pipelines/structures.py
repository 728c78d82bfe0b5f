"""Class names of models as coded structures: ``kidney_left`` becomes SNOMED CT *Kidney*.

Names come from MONAI bundles (``channel_def``), nnU-Net (``dataset.json``) and the like. A name that is not known gets
a private code of this project's own scheme, never a code that may be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from node.pipeline import Code, Findings, Lesion, Segment, Volume, codes
from node.pipeline.label_map import boxes_of

PRIVATE_SCHEME = "99AINODE"
"""Coding Scheme Designator of names without a standard code (PS3.16 8: private designators begin with 99)."""

_NORMAL = codes.SCT.AnatomicalStructure
_ALTERED = codes.SCT.MorphologicallyAbnormalStructure

_KEYWORDS = {
    "adrenal gland": "AdrenalGland",
    "aorta": "Aorta",
    "bladder": "Bladder",
    "brain": "Brain",
    "brain stem": "BrainStem",
    "caudate": "CaudateNucleus",
    "clavicle": "Clavicle",
    "clavicula": "Clavicle",
    "colon": "Colon",
    "duodenum": "Duodenum",
    "edema": "Edema",
    "esophagus": "Esophagus",
    "face": "Face",
    "femur": "Femur",
    "gallbladder": "Gallbladder",
    "heart": "Heart",
    "heart atrium left": "LeftAtrium",
    "heart atrium right": "RightAtrium",
    "heart ventricle left": "LeftVentricle",
    "heart ventricle right": "RightVentricle",
    "hemorrhage": "Hemorrhage",
    "hippocampus": "Hippocampus",
    "humerus": "Humerus",
    "iliac artery": "IliacArtery",
    "iliac vein": "IliacVein",
    "iliac vena": "IliacVein",
    "inferior vena cava": "InferiorVenaCava",
    "ivc": "InferiorVenaCava",
    "kidney": "Kidney",
    "lesion": "Lesion",
    "liver": "Liver",
    "lung": "Lung",
    "lung lower lobe": "LowerLobeOfLung",
    "lung middle lobe": "MiddleLobeOfRightLung",
    "lung upper lobe": "UpperLobeOfLung",
    "nodule": "Nodule",
    "pancreas": "Pancreas",
    "portal vein": "PortalVein",
    "prostate": "Prostate",
    "pulmonary artery": "PulmonaryArtery",
    "rib": "Rib",
    "sacrum": "Sacrum",
    "scapula": "Scapula",
    "small bowel": "SmallIntestine",
    "spinal cord": "SpinalCord",
    "spleen": "Spleen",
    "stomach": "Stomach",
    "thyroid": "Thyroid",
    "trachea": "Trachea",
    "ureter": "Ureter",
    "urinary bladder": "Bladder",
    "vena cava": "VenaCava",
}
"""Name without side and number -> keyword of pydicom's SNOMED CT dictionary (PS3.16 CID 4, 7151 and relatives)."""

_PALETTE = ((255, 64, 64), (64, 160, 255), (80, 200, 80), (255, 176, 32), (190, 90, 255), (0, 200, 200))
_LABEL_LENGTH = 64

_ABNORMAL = re.compile(
    r"abscess|aneurysm|calcification|cancer|carcinoma|consolidation|contusion|cyst|edema|effusion|embol|fracture|glioma"
    r"|ha?ematoma|ha?emorrhage|infarct|ischa?emi|lesion|metasta|neoplas|nodul|opacit|pneumothorax|polyp|stenosis|thromb"
    r"|tumou?r"
)
"""In the name of a class: it is no organ."""


def structure(name: str) -> tuple[Code, Code]:
    """Category and type (PS3.3 C.8.20.4) of the structure that a model calls ``name``."""
    plain = re.sub(r"[\s_-]+", " ", name).strip().lower()
    category = _ALTERED if _ABNORMAL.search(plain) else _NORMAL
    without_side = " ".join(re.sub(r"\b(left|right|\d+)\b", "", plain).split())
    if vertebra := re.fullmatch(r"vertebrae? ([ctl]\d{1,2})", plain):
        keyword = f"{vertebra[1].upper()}Vertebra"
    else:
        keyword = _KEYWORDS.get(plain) or _KEYWORDS.get(without_side, "")
    if not keyword and re.search(r"neoplasm|tumou?r|cancer", plain):
        keyword = "Neoplasm"
    if keyword:
        return category, getattr(codes.SCT, keyword)
    named = without_side or plain
    return category, Code(re.sub(r"[^a-z0-9]+", "-", named).strip("-").upper() or "STRUCTURE", PRIVATE_SCHEME, named)


def check_looked_for(looked_for: Sequence[str], classes: Sequence[str]) -> None:
    """Raises ``ValueError`` when the option ``looked_for`` names a class that the model does not have."""
    for name in looked_for:
        if name not in classes:
            raise ValueError(f"option looked_for = {name!r}: the model has no such class; use {', '.join(classes)}")


def findings_of(outlined: Mapping[str, Segment], looked_for: Sequence[str]) -> Findings:
    """What the outlines of a model mean; ``outlined``: one segment for each of its classes, empty where it saw none.

    Outlines of the classes in ``looked_for``, and of those whose category is abnormal, are lesions; the others are
    structures. Only with ``looked_for`` can the outcome be *no findings*: without it a model that outlines no lesion
    has measured, and claims nothing.
    """
    boxes = boxes_of([*outlined.values()])
    seen = {name: segment for (name, segment), box in zip(outlined.items(), boxes, strict=True) if box is not None}
    lesions = {name: s for name, s in seen.items() if name in looked_for or s.category == _ALTERED}
    others = [segment for name, segment in (seen or outlined).items() if name not in lesions]
    return Findings(
        lesions=tuple(Lesion(segment=segment, finding=segment.type) for segment in lesions.values()),
        segments=tuple(others),
        looked_for=tuple(dict.fromkeys(outlined[name].type for name in looked_for)),
    )


def segment_of(
    mask: Volume, name: str, number: int, structures: Mapping[str, Sequence[str]], value: int | None = None
) -> Segment:
    """The segment of class ``number``, which the model calls ``name``; ``structures`` gives other codes by name.

    ``value``: of the class in ``mask`` where that is a label map; see ``Segment``.
    """
    category, kind = structure(name)
    return Segment(
        label=name.replace("_", " ")[:_LABEL_LENGTH],
        mask=mask if value is not None else mask.with_array(mask.array.astype(np.uint8)),
        value=value,
        category=category,
        type=Code(*structures[name]) if name in structures else kind,
        colour=_PALETTE[number % len(_PALETTE)],
    )
