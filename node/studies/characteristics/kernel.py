"""Sharpness of CT images, by the name of their reconstruction kernel."""

from __future__ import annotations

import re

from node.studies.characteristics.characteristic import Characteristic, Evidence, certain, unknown

_KERNEL, _GROUP, _MAKER = "ConvolutionKernel", "ConvolutionKernelGroup", "Manufacturer"
_GROUPS = {"BRAIN": "smooth", "SOFT_TISSUE": "smooth", "LUNG": "sharp", "BONE": "sharp"}
"""Convolution Kernel Group (0018,9316, PS3.3 C.8.15.3.7) of Enhanced images."""
_NUMBERED = re.compile(r"(?:[\d .]*\.)?(?:A?[BHUTSICDJ]|[BHUQ][A-Z]|I[A-Z]?)(\d\d)[A-Z]{0,2}(?:\d)?")
"""Siemens: B31f, H60s, Br40d, Bl57, ``59 .21.B50s``; the number grows with the sharpness."""
_SMOOTH_UP_TO, _SHARP_FROM = 44, 50
_NAMED = {
    "SOFT": "smooth", "STANDARD": "smooth", "STND": "smooth", "LUNG": "sharp", "BONE": "sharp", "BONEPLUS": "sharp",
    "BONE+": "sharp", "EDGE": "sharp", "ULTRA": "sharp",
}  # fmt: skip
"""GE; DETAIL and CHST lie between."""
_FC_SMOOTH = frozenset({1, 2, 3, 4, 5, *range(10, 16), 17, 18, *range(20, 29), *range(41, 45), *range(62, 69)})
_FC_SHARP = frozenset({30, 31, 35, *range(50, 57), *range(80, 87)})
"""Canon and Toshiba: FC18, FC51."""
_PHILIPS = {"A": "smooth", "B": "smooth", "UA": "smooth", "UB": "smooth", "D": "sharp", "L": "sharp", "E": "sharp",
            "YA": "sharp", "YB": "sharp", "YC": "sharp", "YD": "sharp"}  # fmt: skip


def kernel_of(evidence: Evidence) -> Characteristic:
    """Return whether the kernel is made for soft tissue (smooth), or for lung and bone (sharp)."""
    groups = {_GROUPS.get(text, "") for text in evidence.texts(_GROUP)}
    if len(groups) == 1 and (group := groups.pop()):
        return certain(group, evidence.basis(_GROUP))
    kernels = evidence.texts(_KERNEL)
    makers = " ".join(evidence.texts(_MAKER))
    known = {sharpness for text in kernels if (sharpness := _sharpness(text, makers))}
    basis = evidence.basis(*evidence.present(_MAKER), _KERNEL)
    return certain(known.pop(), basis) if len(known) == 1 else unknown(basis)


def _sharpness(kernel: str, makers: str) -> str:
    if (match := _NUMBERED.fullmatch(kernel)) is not None:
        number = int(match[1])
        return "smooth" if number <= _SMOOTH_UP_TO else "sharp" if number >= _SHARP_FROM else ""
    if (match := re.fullmatch(r"FC(\d\d)[A-Z-]*", kernel)) is not None:
        return "smooth" if int(match[1]) in _FC_SMOOTH else "sharp" if int(match[1]) in _FC_SHARP else ""
    if (match := re.fullmatch(r"[A-Z]+_(V?SOFT|V?SHARP)_[A-Z]+", kernel)) is not None:  # United Imaging
        return "smooth" if "SOFT" in match[1] else "sharp"
    if "PHILIPS" in makers:
        return _PHILIPS.get(kernel, "")
    return _NAMED.get(kernel, "")
