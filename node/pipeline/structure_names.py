"""Class names of models as coded structures: ``kidney_left`` becomes SNOMED CT *Kidney*.

Names come from MONAI bundles (``channel_def``), nnU-Net (``dataset.json``) and the like. A name that is not known gets
a private code of this project's own scheme, never a code that may be wrong.
"""

from __future__ import annotations

import re

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99AINODE"
"""Coding Scheme Designator of names without a standard code (PS3.16 8: private designators begin with 99)."""

NORMAL = codes.SCT.AnatomicalStructure
ALTERED = codes.SCT.MorphologicallyAbnormalStructure

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

_ABNORMAL = re.compile(
    r"abscess|aneurysm|calcification|cancer|carcinoma|consolidation|contusion|cyst|edema|effusion|embol|fracture|glioma"
    r"|ha?ematoma|ha?emorrhage|infarct|ischa?emi|lesion|metasta|neoplas|nodul|opacit|pneumothorax|polyp|stenosis|thromb"
    r"|tumou?r"
)
"""In the name of a class: it is no organ."""


def structure(name: str) -> tuple[Code, Code]:
    """Category and type (PS3.3 C.8.20.4) of the structure that a model calls ``name``."""
    plain = _plain(name)
    category = ALTERED if _ABNORMAL.search(plain) else NORMAL
    if (code := listed_code(name)) is not None:
        return category, code
    if re.search(r"neoplasm|tumou?r|cancer", plain):
        return category, codes.SCT.Neoplasm
    named = without_side(plain) or plain
    return category, Code(re.sub(r"[^a-z0-9]+", "-", named).strip("-").upper() or "STRUCTURE", PRIVATE_SCHEME, named)


def listed_code(name: str) -> Code | None:
    """SNOMED CT code of a structure that means just what a model calls ``name``; ``None``: the list lacks it."""
    plain = _plain(name)
    if vertebra := re.fullmatch(r"vertebrae? ([ctl]\d{1,2})", plain):
        keyword = f"{vertebra[1].upper()}Vertebra"
    else:
        keyword = _KEYWORDS.get(plain) or _KEYWORDS.get(without_side(plain), "")
    return getattr(codes.SCT, keyword) if keyword else None


def without_side(name: str) -> str:
    """Return the words of a name without left, right and numbers."""
    return " ".join(re.sub(r"\b(left|right|\d+)\b", "", _plain(name)).split())


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
