"""Contrast type of MR images: stated by the scanner, or concluded from echo, repetition and inversion time.

Sequence names and descriptions that operators write are not used; rules can match those as attributes. The limits are
those of clinical protocols at 1.5 and 3 T; times between them belong to no type, and the answer is then *unknown*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from math import acos, degrees, exp

from node.studies.characteristics.b_value import b_value_of
from node.studies.characteristics.characteristic import Characteristic, Evidence, certain, likely, unknown
from node.studies.characteristics.image_kind import words_of
from node.wording import written

_TR, _TE, _TI = "RepetitionTime", "EchoTime", "InversionTime"
_ECHO_TIMES = (_TE, "EffectiveEchoTime")
_INVERSION_TIMES = (_TI, "InversionTimes")
_SCANNING, _VARIANT, _CONTRAST = "ScanningSequence", "SequenceVariant", "AcquisitionContrast"
_FIELD, _TRANSFER = "MagneticFieldStrength", "MagnetizationTransfer"
_LEAST_FIELD, _MOST_FIELD = 0.9, 3.2
"""Tesla. Some scanners write gauss, which then is *unknown* as well."""
_STATED: Mapping[str, str] = {
    "DIFFUSION": "DWI", "FLUID_ATTENUATED": "FLAIR", "PROTON_DENSITY": "PD", "STIR": "STIR", "T1": "T1", "T2": "T2",
    "T2_STAR": "T2_STAR", "TOF": "TOF",
}  # fmt: skip
"""Acquisition Contrast (0008,9209, PS3.3 C.8.13.3.1.4) of Enhanced images."""
_SPIN_ECHO_NAME = re.compile(r"\*?(SE|TSE|TIR|H|SPC)(R|IR)?\d")
_GRADIENT_ECHO_NAME = re.compile(r"\*?(FL|TFL|FI|FISP)\d")
"""Siemens Sequence Name (0018,0024), which the scanner makes: ``*tse2d1_19``."""
_T1_OF_TISSUE_MS = 1000.0
"""Of brain at 1.5 to 3 T, for the Ernst angle of spoiled gradient echoes."""


class _Echo(Enum):
    SPIN = "spin"
    GRADIENT = "gradient"
    PLANAR = "planar"


def sequence_type_of(evidence: Evidence) -> Characteristic:
    """Return the type of an MR series."""
    components = words_of_all(evidence)
    if not components.isdisjoint({"P", "PHASE", "PHASE_MAP", "MIXED", "REAL", "IMAGINARY"}):
        return unknown(evidence.basis("ImageType", *evidence.present("ComplexImageComponent")))
    return _mapped(evidence, components) or _diffusion(evidence) or _stated(evidence) or _concluded(evidence)


def words_of_all(evidence: Evidence) -> frozenset[str]:
    """Return the values of Image Type and its kin in all images."""
    return frozenset().union(*(words_of(image) for image in evidence.images))


def b_values_of(evidence: Evidence) -> Characteristic:
    """Return the b-values of a series (s/mm2), ascending; *unknown* where no image states one."""
    b_values = [b_value_of(image) for image in evidence.images]
    # one maker numbers its images of b = 0 by thousandths
    values = sorted({float(round(b_value[0])) for b_value in b_values if b_value is not None})
    keywords = sorted({b_value[1] for b_value in b_values if b_value is not None})
    if not values or (values == [0] and "DiffusionBValue" not in keywords):  # some makers write 0 into all images
        return unknown([("DiffusionBValue", "")])
    state = certain if None not in b_values else likely
    return state([written(value) for value in values], [(keyword, "s/mm2") for keyword in keywords])


def _mapped(evidence: Evidence, words: frozenset[str]) -> Characteristic | None:
    basis = evidence.basis("ImageType")
    if not words.isdisjoint({"ADC", "ADC_UNSPECIFIED"}):
        return certain("ADC", basis)
    if "SWI" in words:
        return certain("SWI", basis)
    if words.isdisjoint({"EADC", "FA", "FRACTIONAL_ANISOTROPY", "T1_MAP", "T2_MAP", "T2_STAR_MAP", "B0_MAP"}):
        return None
    return unknown(basis)  # a map of another quantity has no weighting


def _diffusion(evidence: Evidence) -> Characteristic | None:
    b_values = b_values_of(evidence)
    weighted = [value for value in b_values.values if value != "unknown" and float(value) > 0]
    if weighted:
        return certain("DWI", [(keyword, ", ".join(b_values.values)) for keyword, _ in b_values.basis])
    words = words_of_all(evidence)
    if "DIFFUSION" in words:
        return certain("DWI", evidence.basis("ImageType"))
    return None


def _stated(evidence: Evidence) -> Characteristic | None:
    """Return what Acquisition Contrast states, unless the echo time contradicts it."""
    stated = evidence.texts(_CONTRAST)
    if len(stated) != 1 or stated[0] not in _STATED:
        return None
    kind, echo_time = _STATED[stated[0]], evidence.number(*_ECHO_TIMES)
    basis = evidence.basis(_CONTRAST)
    if echo_time is not None and (
        (kind == "T1" and echo_time > 40)
        or (kind in ("T2", "FLAIR") and echo_time < 40 and _echo(evidence) is _Echo.SPIN)
    ):
        return unknown((*basis, *evidence.basis(*evidence.present(*_ECHO_TIMES))))
    return certain(kind, basis)


def _concluded(evidence: Evidence) -> Characteristic:
    echo = _echo(evidence)
    used = evidence.present(_SCANNING, _VARIANT, "EchoPulseSequence", "SequenceName") if echo is None else ()
    times = (*(evidence.present(*_ECHO_TIMES) or (_TE,)), _TR)
    echo_time, repetition_time = evidence.number(*_ECHO_TIMES), evidence.number(_TR)
    if unusual := _unusual(evidence):
        return unknown(evidence.basis(unusual))
    if echo is None or echo_time is None or repetition_time is None:
        return unknown(evidence.basis(*(used or (_SCANNING,)), *times))
    basis = evidence.basis(*(evidence.present(_SCANNING, "EchoPulseSequence") or evidence.present("SequenceName")))
    basis += evidence.basis(*times)
    if echo is _Echo.PLANAR:
        # with a spin echo it may be diffusion whose b-value is not stated
        gradient = _gradient_echo_planar(evidence)
        return likely("T2_STAR", basis) if gradient and echo_time >= 12 else unknown(basis)
    if _inverts(evidence):
        basis += evidence.basis(*(evidence.present(*_INVERSION_TIMES) or (_TI,)))
        kind = _inversion_recovery(evidence, echo, echo_time, repetition_time)
    elif echo is _Echo.SPIN:
        kind = _spin_echo(echo_time, repetition_time)
    else:
        basis += evidence.basis("FlipAngle", *evidence.present(_VARIANT))
        kind = _gradient_echo(evidence, echo_time, repetition_time)
    return likely(kind, basis) if kind else unknown(basis)


def _unusual(evidence: Evidence) -> str:
    """Return the attribute that makes the limits useless; empty: none."""
    field = evidence.number(_FIELD)
    if field is not None and not _LEAST_FIELD <= field <= _MOST_FIELD:
        return _FIELD
    if not evidence.texts("ImageType"):  # the images may be of the phase
        return "ImageType"
    if "MTC" in evidence.texts(_VARIANT):
        return _VARIANT
    return "" if set(evidence.texts(_TRANSFER)) <= {"NONE"} else _TRANSFER


def _echo(evidence: Evidence) -> _Echo | None:
    scanning = evidence.texts(_SCANNING)
    pulse, name = evidence.texts("EchoPulseSequence"), evidence.texts("SequenceName")
    if "EP" in scanning or evidence.texts("EchoPlanarPulseSequence") == ("YES",):
        return _Echo.PLANAR
    if "SE" in scanning or "SPIN" in pulse:
        return _Echo.SPIN if "GR" not in scanning else None
    if "GR" in scanning or "GRADIENT" in pulse:
        return _Echo.GRADIENT
    if name and all(_SPIN_ECHO_NAME.match(text) for text in name):
        return _Echo.SPIN
    return _Echo.GRADIENT if name and all(_GRADIENT_ECHO_NAME.match(text) for text in name) else None


def _gradient_echo_planar(evidence: Evidence) -> bool:
    scanning, names = evidence.texts(_SCANNING), evidence.texts("SequenceName")
    if "SE" in scanning:
        return False
    stated = "GR" in scanning or evidence.texts("EchoPulseSequence") == ("GRADIENT",)
    return stated or (bool(names) and all(name.startswith("*EPFID") for name in names))


def _inverts(evidence: Evidence) -> bool:
    times = evidence.numbers(_TI) or evidence.numbers("InversionTimes")
    return (
        bool(times and times[-1] > 0)
        or "IR" in evidence.texts(_SCANNING)
        or "IR" in evidence.texts("ScanOptions")
        or evidence.texts("InversionRecovery") == ("YES",)
        or any(re.match(r"\*?TIR", name) for name in evidence.texts("SequenceName"))
    )


def _inversion_recovery(evidence: Evidence, echo: _Echo, echo_time: float, repetition_time: float) -> str:
    time = evidence.number(*_INVERSION_TIMES)
    if echo is _Echo.GRADIENT:  # MPRAGE: T1 also where its inversion time is not stated
        return "T1" if echo_time <= 10 and (time is None or 300 <= time <= 1600) else ""
    if time is None:
        return ""
    if 1500 <= time <= 3300 and repetition_time >= 4000 and echo_time >= 60:
        return "FLAIR"
    if 80 <= time <= 350 and repetition_time >= 1400:
        return "STIR"
    return "T1" if 350 < time <= 1300 and echo_time <= 40 and 1000 <= repetition_time <= 4000 else ""


def _spin_echo(echo_time: float, repetition_time: float) -> str:
    if echo_time >= 70 and repetition_time >= 400:  # of single shots it is the time between slices
        return "T2"
    if echo_time <= 45 and repetition_time >= 1800:
        return "PD"
    return "T1" if echo_time <= 30 and 100 <= repetition_time <= 1100 else ""


def _gradient_echo(evidence: Evidence, echo_time: float, repetition_time: float) -> str:
    if "TOF" in evidence.texts(_VARIANT) or evidence.texts("AngioFlag") == ("Y",):
        return "TOF" if echo_time <= 8 else ""
    if echo_time >= 12:
        return "T2_STAR"
    angle, variants = evidence.number("FlipAngle"), evidence.texts(_VARIANT)
    if angle is None or echo_time > 8 or repetition_time > 1000 or ("SS" in variants and "SP" not in variants):
        return ""
    ernst = degrees(acos(exp(-repetition_time / _T1_OF_TISSUE_MS)))
    return "T1" if angle > ernst else "PD" if angle < ernst / 2 else ""
